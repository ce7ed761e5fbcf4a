"""Command line of tools/gpu_check.sh: run the chosen parts, print a table, write gpu_check.json."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from support.repository import REPOSITORY

from . import machine, table
from .outcome import FAILED, INCOMPLETE, NOT_RUN, PASSED, Result, outcome_of
from .plan import PARTS, SUBSETS, Settings, choose
from .runner import run_part

SCHEMA = 1
EXIT_STATUS = {PASSED: 0, FAILED: 1, INCOMPLETE: 2, NOT_RUN: 2}
_LEAST_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/gpu_check.sh", description="Build, test and measure the CUDA kernels.")
    parser.add_argument("subsets", nargs="*", metavar="SUBSET", help=f"{', '.join(SUBSETS)} (default: quick)")
    parser.add_argument("--budget", type=float, default=560.0, help="seconds for all parts (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="REGEX", help="run only matching cases, after the build")
    parser.add_argument("--emulated", action="store_true", help="rehearse without a GPU, at toy sizes")
    parser.add_argument("--library", type=Path, help="kernel library to check instead of building one")
    given = parser.parse_args(arguments)
    subsets = given.subsets or ["quick"]
    try:
        chosen = choose(subsets, given.emulated)
    except ValueError as wrong:
        parser.error(str(wrong))
    out = Path(os.environ.get("OUT") or REPOSITORY / "build" / "gpu_check").resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in {"gpu_check.json", "ncu.txt", *(part.log for part in PARTS.values())}:
        (out / old).unlink(missing_ok=True)
    if given.library:
        del chosen["build"]
    library = given.library or REPOSITORY / "build" / ("kernels_emulated.so" if given.emulated else "kernels_cuda.so")
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "commit": machine.commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "subsets": subsets,
        "emulated": given.emulated,
        "budget_seconds": given.budget,
        "machine": machine.describe(),
        "parts": [],
        "outcome": NOT_RUN,
    }
    run_parts(record, chosen, library.resolve(), out, given.budget, given.emulated, given.only)
    print(table.of(record), flush=True)
    print(f"{out / 'gpu_check.json'}: {record['outcome']}")
    return EXIT_STATUS[record["outcome"]]


def run_parts(
    record: dict[str, Any],
    chosen: dict[str, float],
    library: Path,
    out: Path,
    budget: float,
    emulated: bool = False,
    only: str = "",
) -> None:
    """Fill record["parts"], and write the JSON after every part so that an interrupted run keeps its results."""
    begin = time.monotonic()
    broken = False
    for name, seconds in chosen.items():
        left = budget - (time.monotonic() - begin)
        part_begin = time.monotonic()
        if broken:
            results = [Result(name, NOT_RUN, detail="the library could not be built")]
        elif left < _LEAST_SECONDS:
            results = [Result(name, NOT_RUN, detail="the time ran out")]
        else:
            settings = Settings(name, library, out, emulated, "" if name == "build" else only)
            results = run_part(settings, min(seconds, left))
        if not results:
            continue  # --only matches no case of this part
        broken = broken or (name == "build" and results[0].outcome != PASSED)
        record["parts"].append(describe_part(name, results, time.monotonic() - part_begin, min(seconds, max(left, 0))))
        record["outcome"] = outcome_of([Result(part["name"], part["outcome"]) for part in record["parts"]])
        (out / "gpu_check.json").write_text(json.dumps(record, indent=1) + "\n")
        print(table.part_line(record["parts"][-1]), flush=True)


def describe_part(name: str, results: list[Result], seconds: float, budget: float) -> dict[str, Any]:
    return {
        "name": name,
        "outcome": outcome_of(results),
        "seconds": round(seconds, 1),
        "budget_seconds": round(budget, 1),
        "cases": [vars(result) for result in results],
    }


if __name__ == "__main__":
    sys.exit(main())
