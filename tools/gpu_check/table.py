"""The short table at the end: parts, failures, and the figures in one line per row."""

from __future__ import annotations

from typing import Any

from . import gates
from .outcome import FAILED, NOT_RUN, PASSED

_FAILURES_SHOWN = 12
_REASONS_SHOWN = 6
_DETAIL_SHOWN = 300


def of(record: dict[str, Any]) -> str:
    machine = record["machine"]["gpu"]
    where = "emulated: no figure counts" if record["emulated"] else (machine or {}).get("name", "no GPU was found")
    lines = ["", f"commit {record['commit']}  {where}"]
    lines += [part_line(part) for part in record["parts"]]
    lines += _reasons(record)
    lines += figures(record)
    return "\n".join(lines)


def part_line(part: dict[str, Any]) -> str:
    counts = {
        outcome: sum(case["outcome"] == outcome for case in part["cases"]) for outcome in (PASSED, FAILED, NOT_RUN)
    }
    numbers = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    return f"{part['name']:14s} {part['outcome']:8s} {part['seconds']:7.1f} s  {numbers}"


def _reasons(record: dict[str, Any]) -> list[str]:
    lines = []
    for outcome, shown in ((FAILED, _FAILURES_SHOWN), (NOT_RUN, _REASONS_SHOWN)):
        cases = [(p["name"], case) for p in record["parts"] for case in p["cases"] if case["outcome"] == outcome]
        for part, case in cases[:shown]:
            lines.append(f"{outcome}: {part}: {case['name']}: {case['detail'][:_DETAIL_SHOWN]}")
        if len(cases) > shown:
            lines.append(f"{outcome}: {len(cases) - shown} more in the JSON")
    return lines


def rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of every measured mask."""
    return [case["figures"] for part in record["parts"] for case in part["cases"] if "matmul_tflops" in case["figures"]]


def figures(record: dict[str, Any]) -> list[str]:
    measured = rows(record)
    if not measured:
        return []
    head = f"{'mask':22s} {'S':>6s} {'D':>3s} {'eta':>5s}  pass  {'TFLOP/s':>7s} {'% R':>4s}"
    lines = [f"{head}  gates passed; ratio to each peer"]
    for row in measured:
        for direction in ("forward", "backward"):
            speeds = {name: times["tflops"] for name, times in row[direction]["contestants"].items()}
            ours = speeds.pop("ours")
            ratios = "  ".join(f"{name} {ours / speed:.2f}" for name, speed in speeds.items())
            share = 100 * ours / row["matmul_tflops"]
            lines.append(
                f"{row['mask']:22s} {row['seqlen']:6d} {row['head_dim']:3d} {row['tile_efficiency']:5.3f}  "
                f"{direction[:3]}   {ours:7.1f} {share:4.0f}  {gates.reached(row, direction)}; {ratios}"
            )
    return lines
