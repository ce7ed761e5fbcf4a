"""Command line of tools/gpu_check.sh: run the chosen parts, print a table, write gpu_check.json and journal.jsonl."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import time
from pathlib import Path

from support.repository import REPOSITORY

from . import caches, machine, table
from .outcome import FAILED, INCOMPLETE, NOT_RUN, PASSED, Result
from .plan import SUBSETS, Settings, choose
from .processes import run_program
from .record import FILE, Record, keep_previous
from .runner import Runner

SCHEMA = 2
CACHES = REPOSITORY / "build" / "gpu_check_caches"
EXIT_STATUS = {PASSED: 0, FAILED: 1, INCOMPLETE: 2, NOT_RUN: 2}
_LEAST_SECONDS = 5.0
_LOAD_SECONDS = 60.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/gpu_check.sh", description="Build, test and measure the CUDA kernels.")
    parser.add_argument("subsets", nargs="*", metavar="SUBSET", help=f"{', '.join(SUBSETS)} (default: quick)")
    parser.add_argument("--budget", type=float, default=560.0, help="seconds for all parts (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="REGEX", help="run only matching cases, after the build")
    parser.add_argument("--emulated", action="store_true", help="rehearse without a GPU, at toy sizes")
    parser.add_argument("--library", type=Path, help="loadable kernel library, instead of building one")
    parser.add_argument("--caches", type=Path, help=f"{caches.ARCHIVE} of an earlier run, to compile less")
    given = parser.parse_args(arguments)
    subsets = given.subsets or ["quick"]
    try:
        chosen = choose(subsets, given.emulated)
    except ValueError as wrong:
        parser.error(str(wrong))
    out = Path(os.environ.get("OUT") or REPOSITORY / "build" / "gpu_check").resolve()
    out.mkdir(parents=True, exist_ok=True)
    keep_previous(out)
    library = REPOSITORY / "build" / ("kernels_emulated.so" if given.emulated else "kernels_cuda.so")
    if given.library and not (refusal := why_unloadable(given.library)):
        library = given.library
        del chosen["build"]
    elif given.library:
        print(f"{given.library} cannot be loaded, so {library.name} is built: {refusal}", flush=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the children end as well
    content = {
        "schema": SCHEMA,
        "commit": machine.commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "subsets": subsets,
        "emulated": given.emulated,
        "budget_seconds": given.budget,
        "machine": machine.describe(),
    }
    caches.use(CACHES, given.caches)
    record = Record(out, content)
    run_parts(record, chosen, library.resolve(), out, given.budget, given.emulated, given.only)
    caches.pack(CACHES, out / caches.ARCHIVE)
    print(table.of(record.content), flush=True)
    print(f"{out / FILE}: {record.content['outcome']}")
    return EXIT_STATUS[record.content["outcome"]]


def why_unloadable(library: Path) -> str:
    """What the dynamic linker reports where this machine cannot load the library, or ""."""
    command = [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(library.resolve())]
    done = run_program(command, _LOAD_SECONDS)
    return "" if done.returncode == 0 else done.stdout.strip().rpartition("\n")[2] or f"status {done.returncode}"


def run_parts(
    record: Record,
    chosen: dict[str, float],
    library: Path,
    out: Path,
    budget: float,
    emulated: bool = False,
    only: str = "",
) -> None:
    """Run the parts within the budget. The record is written after every case, for a killed run."""
    begin = time.monotonic()
    broken = False
    runner = Runner()
    for name, seconds in chosen.items():
        left = budget - (time.monotonic() - begin)
        part_begin = time.monotonic()
        allowed = min(seconds, max(left, 0.0))

        def update(results: list[Result], name: str = name, since: float = part_begin, limit: float = allowed) -> dict:
            return record.update(name, results, time.monotonic() - since, limit)

        runner.report = update
        if broken:
            results = [Result(name, NOT_RUN, detail="the library could not be built")]
        elif left < _LEAST_SECONDS:
            results = [Result(name, NOT_RUN, detail="the time ran out")]
        else:
            results = runner.run_part(Settings(name, library, out, emulated, "" if name == "build" else only), allowed)
        if not results:
            continue  # --only matches no case of this part
        broken = broken or (name == "build" and results[0].outcome != PASSED)
        print(table.part_line(update(results)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
