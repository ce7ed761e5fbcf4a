"""Markdown tables for docs/performance/results.md from gpu_check.json.

python3 -m benchmarks.gpu.report FILE [FILE ...]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tools.gpu_check.outcome import FAILED, NOT_RUN, PASSED

from . import gates
from .profile import METRICS


def markdown(record: dict[str, Any]) -> str:
    """Tables of one record. Raises ValueError for a rehearsal, whose figures have no meaning."""
    if record["emulated"]:
        raise ValueError("this run was emulated, so its figures have no meaning")
    blocks = [_heading(record), _parts(record)]
    if rows(record):
        blocks += [_method(record), _speeds(record), _gates(record), *_absent(record)]
    blocks += [*_peers_alone(record), *_sweeps(record), *_stalls(record)]
    preparation = _preparation(record)
    if preparation:
        blocks.append(preparation)
    kernels = _resources(record)
    if kernels:
        blocks.append(kernels)
    return "\n\n".join(blocks) + "\n"


def rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Figures of every measured mask."""
    return [case["figures"] for case in _cases(record) if "matmul_tflops" in case["figures"]]


def _cases(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [case for part in record["parts"] for case in part["cases"]]


def _heading(record: dict[str, Any]) -> str:
    machine = record["machine"]
    gpu = machine["gpu"] or {}
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    return (
        f"{gpu.get('name', 'no GPU')}, driver {gpu.get('driver_version', '-')}, power limit "
        f"{gpu.get('power.limit', '-')} W, {packages}; commit {record['commit']}, {record['date']}."
    )


def _parts(record: dict[str, Any]) -> str:
    lines = ["| part | outcome | passed | failed | not run | seconds |", "|---|---|---|---|---|---|"]
    for part in record["parts"]:
        counts = [sum(case["outcome"] == o for case in part["cases"]) for o in (PASSED, FAILED, NOT_RUN)]
        cells = [part["name"], part["outcome"], *counts, f"{part['seconds']:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _method(record: dict[str, Any]) -> str:
    products = [case["figures"] for case in _cases(record) if "method" in case["figures"]]
    rates = ", ".join(f"{product['tflops']:.0f}" for product in products)
    return (
        f"R, a bf16 matrix product of {products[0]['size']} cubed in the same process: {rates} TFLOP/s. "
        f"{products[0]['method']}. TFLOP/s count visible pairs (4 D forward, 10 D backward); eta is the share of "
        "visible pairs in the 128 x 128 tiles that hold one, so eta R bounds every kernel with such tiles."
    )


def _speeds(record: dict[str, Any]) -> str:
    measured = rows(record)
    peers = list(dict.fromkeys(name for row in measured for name in row["forward"]["contestants"] if name != "ours"))
    head = ["mask", "S", "D", "B", "H", "eta", "pass", "ms", "TFLOP/s", "% of R", "% of eta R"]
    head += [f"x {name}" for name in peers] + ["SM MHz", "W"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in measured:
        for direction in ("forward", "backward"):
            contestants = row[direction]["contestants"]
            ours, rate, eta = contestants["ours"], row["matmul_tflops"], row["tile_efficiency"]
            heads = f"{row['heads']}:{row['heads_kv']}" if row["heads"] != row["heads_kv"] else row["heads"]
            load = row[direction]["load"]
            mask = f"{row['mask']} (wrong result)" if "wrong" in row else row["mask"]
            cells = [mask, row["seqlen"], row["head_dim"], row["batch"], heads, f"{eta:.3f}", direction]
            cells += [f"{ours['median_ms']:.3f}", f"{ours['tflops']:.0f}", f"{100 * ours['tflops'] / rate:.0f}"]
            cells.append(f"{100 * ours['tflops'] / (rate * eta):.0f}")
            for name in peers:
                theirs = contestants.get(name)
                cells.append(f"{theirs['median_ms'] / ours['median_ms']:.2f}" if theirs else "-")
            cells += [f"{load[key]:.0f}" if key in load else "-" for key in ("clocks.sm", "power.draw")]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _gates(record: dict[str, Any]) -> str:
    """Table of our speed over each gate of gates.py; 1.00 or more passes."""
    lines = [
        "Our speed over each gate: `par` is 0.95 of the best published kernel, `goal` the model of "
        "`benchmarks/gpu/gates.py`, `stretch` a share of R; all in proportion to the R of the row.\n",
        "| mask | S | D | pass | TFLOP/s | " + " | ".join(f"x {name}" for name in gates.NAMES) + " | passed |",
        "|" + "---|" * (6 + len(gates.NAMES)),
    ]
    for row in rows(record):
        for direction in ("forward", "backward"):
            ours = row[direction]["contestants"]["ours"]["tflops"]
            cells = [row["mask"], row["seqlen"], row["head_dim"], direction, f"{ours:.0f}"]
            limits = gates.gates(row, direction)
            cells += ["-" if limits[name] is None else f"{ours / limits[name]:.2f}" for name in gates.NAMES]
            cells.append(gates.reached(row, direction))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _absent(record: dict[str, Any]) -> list[str]:
    """List of the peers that did not run, with one line for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows(record):
        for name, reason in row.get("absent", {}).items():
            found.setdefault((name, reason), []).append(f"{row['mask']} {row['seqlen']} D{row['head_dim']}")
    lines = [f"* {name}: {reason} ({', '.join(where)})" for (name, reason), where in found.items()]
    return ["Peers that did not run:\n\n" + "\n".join(lines)] if lines else []


def _peers_alone(record: dict[str, Any]) -> list[str]:
    """Table of the peers measured before our kernels, which stands where ours failed."""
    lines = ["| peer alone | row | pass | ms | TFLOP/s |", "|" + "---|" * 5]
    for figures in (case["figures"] for case in _cases(record) if "peers_of" in case["figures"]):
        for direction in ("forward", "backward"):
            for name, times in figures.get(direction, {"contestants": {}})["contestants"].items():
                cells = [name, figures["peers_of"], direction, f"{times['median_ms']:.3f}", f"{times['tflops']:.0f}"]
                lines.append("| " + " | ".join(cells) + " |")
    return ["\n".join(lines)] if len(lines) > 2 else []


def _sweeps(record: dict[str, Any]) -> list[str]:
    """Tables of the variants of tile rows, by their speed over the table's own row."""
    found = []
    for case in (case for case in _cases(record) if "ranking" in case["figures"]):
        lines = [f"| {case['name']} | speed |", "|---|---|"]
        lines += [f"| {entry['name']} | {entry['speed']:.3f} |" for entry in case["figures"]["ranking"]]
        found.append("\n".join(lines))
    return found


def _stalls(record: dict[str, Any]) -> list[str]:
    """Table of the profiled kernels: tensor pipe, bank conflicts, and the stalls with the most samples."""
    lines = ["| profile | ms | tensor pipe | bank conflicts | stalls |", "|" + "---|" * 5]
    for case in (case for case in _cases(record) if case["figures"].get("profiled")):
        (kernel, *_), stalls = case["figures"]["profiled"], case["figures"].get("stalls", {})
        most = sorted(stalls, key=lambda reason: -stalls[reason])[:4]
        shares = ", ".join(f"{reason.removeprefix('stall_')} {stalls[reason]}" for reason in most)
        cells = [case["name"], *(kernel.get(name, "-") for name in ("Duration", METRICS[0], METRICS[3])), shares or "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return ["\n".join(lines)] if len(lines) > 2 else []


def _preparation(record: dict[str, Any]) -> str:
    for case in _cases(record):
        if "preparation_microseconds" in case["figures"]:
            taken = case["figures"]
            return f"Mask preparation at {taken['keys']} keys: {taken['preparation_microseconds']:.1f} us."
    return ""


def _resources(record: dict[str, Any]) -> str:
    kernels = [
        k
        for part in record["parts"]
        if part["name"] == "build"
        for case in part["cases"]
        for k in case["figures"].get("kernels", [])
    ]
    if not kernels:
        return ""
    lines = ["| kernel | architecture | registers | stack | static shared | local |", "|---|---|---|---|---|---|"]
    for kernel in kernels:
        numbers = [kernel.get(key, 0) for key in ("reg", "stack", "shared", "local")]
        lines.append(f"| `{kernel['name']}` | {kernel['architecture']} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", nargs="+", type=Path)
    for path in parser.parse_args().results:
        print(markdown(json.loads(path.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
