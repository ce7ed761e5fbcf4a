"""Lines of one measured row in the table that ends a run of tools/gpu_check.sh."""

from __future__ import annotations

from typing import Any

from . import gates

_HEAD = (
    f"{'mask':22s} {'S':>6s} {'D':>3s} {'eta':>5s}  pass  {'TFLOP/s':>7s} {'% R':>4s}  gates passed; ratio to each peer"
)


def of(row: dict[str, Any]) -> dict[str, Any]:
    """`head`, the same for all rows, and `lines`, one for each direction."""
    return {"head": _HEAD, "lines": [_line(row, direction) for direction in ("forward", "backward")]}


def _line(row: dict[str, Any], direction: str) -> str:
    speeds = {name: times["tflops"] for name, times in row[direction]["contestants"].items()}
    ours = speeds.pop("ours")
    ratios = "  ".join(f"{name} {ours / speed:.2f}" for name, speed in speeds.items())
    share = 100 * ours / row["matmul_tflops"]
    wrong = "WRONG; " if "wrong" in row else ""
    return (
        f"{row['mask']:22s} {row['seqlen']:6d} {row['head_dim']:3d} {row['tile_efficiency']:5.3f}  "
        f"{direction[:3]}   {ours:7.1f} {share:4.0f}  {wrong}{gates.reached(row, direction)}; {ratios}"
    )
