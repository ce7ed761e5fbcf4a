"""Cases, their results, and the outcome of a part."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
INCOMPLETE = "incomplete"  # of a part: nothing failed, something passed, something did not run
_DETAIL_LENGTH = 4000


class NotRun(Exception):
    """Reason why a case cannot run on this machine. It then counts as neither passed nor failed."""


class DeviceLost(Exception):
    """The GPU context of this process is unusable from now on."""


@dataclass(frozen=True)
class Case:
    """One check. run() returns figures for the JSON, or None; an exception means failure."""

    name: str
    run: Callable[[], dict[str, Any] | None]


@dataclass
class Result:
    name: str
    outcome: str
    seconds: float = 0.0
    detail: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def work_through(cases: list[Case], journal: Journal, deadline: float, skip: int = 0) -> None:
    """Run cases[skip:] and record their results. No case starts after the deadline (time.monotonic).

    Raises:
        DeviceLost: once recorded, so that a fresh process can continue with the next case.
    """
    if skip == 0:
        journal.plan(case.name for case in cases)
    for case in cases[skip:]:
        if time.monotonic() >= deadline:
            journal.finish(Result(case.name, NOT_RUN, detail="the time ran out"))
            continue
        journal.start(case.name)
        begin = time.monotonic()
        result = Result(case.name, PASSED)
        lost: DeviceLost | None = None
        try:
            result.figures = case.run() or {}
        except NotRun as reason:
            result.outcome, result.detail = NOT_RUN, str(reason)
        except Exception as failure:  # any exception is the result of its case
            result.outcome = FAILED
            result.detail = f"{type(failure).__name__}: {failure}"[:_DETAIL_LENGTH]
            lost = failure if isinstance(failure, DeviceLost) else None
        result.seconds = round(time.monotonic() - begin, 3)
        print(f"{result.outcome:8s} {result.seconds:8.2f} s  {result.name}  {result.detail}", flush=True)
        journal.finish(result)
        if lost:
            raise lost


class Journal:
    """Record of a part's progress on disk, which survives its process: one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self, names: Iterable[str]) -> None:
        self._write({"planned": list(names)})

    def start(self, name: str) -> None:
        self._write({"started": name})

    def finish(self, result: Result) -> None:
        self._write({"finished": asdict(result)})

    def _write(self, entry: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def _entries(self, kind: str) -> list[Any]:
        if not self.path.exists():
            return []
        entries = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [entry[kind] for entry in entries if kind in entry]

    @property
    def planned(self) -> list[str] | None:
        """Names of all cases, or None if the process died before listing them."""
        return next(iter(self._entries("planned")), None)

    @property
    def results(self) -> list[Result]:
        return [Result(**entry) for entry in self._entries("finished")]

    @property
    def unfinished(self) -> str | None:
        """Case that was running when the process ended."""
        started = self._entries("started")
        finished = {result.name for result in self.results}
        return started[-1] if started and started[-1] not in finished else None


def outcome_of(results: list[Result]) -> str:
    outcomes = {result.outcome for result in results}
    if FAILED in outcomes:
        return FAILED
    if len(outcomes) == 1:
        return outcomes.pop()
    return INCOMPLETE if outcomes else NOT_RUN
