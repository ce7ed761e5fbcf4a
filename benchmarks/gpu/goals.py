"""Markdown table of the bound of each mask on tiles of 128 x 128, and its gates, at a given matrix product rate.

    python3 -m benchmarks.gpu.goals [--rate TFLOP/s]

Computed, not measured. Gates are given as forward / backward.
"""

from __future__ import annotations

import argparse
from typing import Any

from .gates import R_OF_PUBLISHED, gates
from .paper_masks import NAMES, paper_mask

SEQLENS = (8192, 32768, 131072)  # the paper's
HEAD_DIMS = (128, 64)
_GATES = ("par", "goal")


def markdown(rate: float, seqlens: tuple[int, ...] = SEQLENS) -> str:
    head = ["mask", "S", "density", "eta", "partial tiles", "eta R"]
    head += [f"{gate} D {dim}" for dim in HEAD_DIMS for gate in _GATES]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in NAMES:
        for seqlen in seqlens:
            lines.append("| " + " | ".join([name, str(seqlen), *_cells(name, seqlen, rate)]) + " |")
    return "\n".join(lines) + "\n"


def _cells(name: str, seqlen: int, rate: float) -> list[str]:
    mask = paper_mask(name, seqlen)
    eta = mask.tile_efficiency
    row: dict[str, Any] = {
        "mask": name,
        "matmul_tflops": rate,
        "live_tiles_per_row": mask.live_tiles_per_row,
        "partial_tiles": mask.partial_tiles,
        "tile_efficiency": eta,
    }
    cells = [f"{mask.pairs / seqlen**2:.3f}", f"{eta:.3f}", f"{mask.partial_tiles:.2f}", f"{eta * rate:.0f}"]
    for dim in HEAD_DIMS:
        by_direction = [gates(row | {"head_dim": dim}, direction) for direction in ("forward", "backward")]
        for gate in _GATES:
            rates = (values[gate] for values in by_direction)
            cells.append(" / ".join("-" if rate is None else f"{rate:.0f}" for rate in rates))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=R_OF_PUBLISHED, help="R, TFLOP/s of a bf16 matrix product")
    print(markdown(parser.parse_args().rate), end="")


if __name__ == "__main__":
    main()
