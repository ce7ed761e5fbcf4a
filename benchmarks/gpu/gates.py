"""Speed gates of a row: `par` with the best published kernel, a `goal` for its mask, a `stretch` goal if it is dense.

In TFLOP/s of visible pairs on an H200, in proportion to R, the matrix product rate of the run.
"""

from __future__ import annotations

from typing import Any

R_OF_PUBLISHED = 790.0  # TFLOP/s of a bf16 product of 8192 cubed, random data, on the GPU of the published figures
# (mask, head_dim) -> forward, backward. cuDNN 9.19 on an H200 (NVIDIA/cudnn-frontend, sdpa_benchmark_training);
# FlashAttention-3 and MagiAttention on an H100 (MagiAttention's kernel benchmark: other documents than here; its mask
# of blocks is similar to causal_blockwise); head_dim 64 from the paper on FlashAttention-3.
BEST_PUBLISHED = {
    ("full", 128): (702.0, 612.0),
    ("causal", 128): (688.0, 585.0),
    ("causal_document", 128): (584.0, 425.0),
    ("document", 128): (605.0, 501.0),
    ("causal_blockwise", 128): (572.0, 362.0),
    ("full", 64): (497.0, 474.0),
    ("causal", 64): (473.0, None),
}
PAR = 0.95
# Share of R that tensor cores, exponentials and shared memory allow, for head_dim up to 64 and above; cost of a row of
# tiles beyond its live tiles, in tiles; extra cost of a partial tile over a full one.
_SHARE = {"forward": (0.70, 0.91), "backward": (0.66, 0.81)}
_TILES_MORE = {"forward": 1.0, "backward": 2.5}
_PARTIAL_MORE = {"forward": 0.08, "backward": 0.04}
_STRETCH = {"forward": 0.93, "backward": 0.84}
NAMES = ("par", "goal", "stretch")


def gates(row: dict[str, Any], direction: str) -> dict[str, float | None]:
    """TFLOP/s of each gate, or None for a gate that this row does not have."""
    rate, tiles = row["matmul_tflops"], row["live_tiles_per_row"]
    share = _SHARE[direction][row["head_dim"] > 64]
    work = tiles * (1 + _PARTIAL_MORE[direction] * row["partial_tiles"]) + _TILES_MORE[direction]
    published = BEST_PUBLISHED.get((row["mask"], row["head_dim"]), (None, None))[direction == "backward"]
    is_dense = row["mask"] in ("full", "causal") and row["head_dim"] > 64
    return {
        "par": None if published is None else PAR * published * rate / R_OF_PUBLISHED,
        "goal": rate * share * row["tile_efficiency"] * tiles / work,
        "stretch": _STRETCH[direction] * rate if is_dense else None,
    }


def reached(row: dict[str, Any], direction: str) -> str:
    """Names of the gates that our speed passes, or "none"."""
    ours = row[direction]["contestants"]["ours"]["tflops"]
    passed = [name for name, gate in gates(row, direction).items() if gate is not None and ours >= gate]
    return ", ".join(passed) or "none"
