"""Short table at the end of a run: parts, failures, and the summary lines of measurements."""

from __future__ import annotations

from typing import Any

from .outcome import FAILED, NOT_RUN, PASSED

_FAILURES_SHOWN = 12
_REASONS_SHOWN = 6
_DETAIL_SHOWN = 300


def of(record: dict[str, Any]) -> str:
    machine = record["machine"]["gpu"]
    where = (machine or {}).get("name", "no GPU was found")
    if record["emulated"]:
        where = "emulated: the figures have no meaning"
    lines = ["", f"commit {record['commit']}  {where}"]
    lines += [part_line(part) for part in record["parts"]]
    lines += _reasons(record)
    lines += _summaries(record)
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


def _summaries(record: dict[str, Any]) -> list[str]:
    """Lines that measured cases bring as `summary`, under a head line wherever it changes."""
    lines: list[str] = []
    head = None
    for part in record["parts"]:
        for summary in (case["figures"]["summary"] for case in part["cases"] if "summary" in case["figures"]):
            if summary["head"] != head:
                head = summary["head"]
                lines.append(head)
            lines += summary["lines"]
    return lines
