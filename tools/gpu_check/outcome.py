"""Cases, their results, and the outcome of a part."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
INCOMPLETE = "incomplete"  # of a part: nothing failed, something passed, something did not run
LIMIT_SECONDS = 15.0  # of one case
_DETAIL_LENGTH = 4000
_DEVICE_ERROR = 4  # status PFM_DEVICE_ERROR of csrc/flashmask.h
_TORCH_ERROR = "AcceleratorError"


class NotRun(Exception):
    """Reason why a case cannot run on this machine. It then counts as neither passed nor failed."""


class WrongResult(AssertionError):
    """Failure whose figures are worth keeping."""

    def __init__(self, message: str, figures: dict[str, Any]) -> None:
        super().__init__(message)
        self.figures = figures


class DeviceLost(Exception):
    """The GPU context of this process is unusable from now on."""


@dataclass(frozen=True)
class Case:
    """One check. run() returns figures for the JSON, or None; an exception means failure.

    Its process is killed after `seconds`. Cases of one kernel row share the name in `row`, which runner.py quarantines
    where it only hangs or fails; `after` names further rows without which this case is of no use.
    """

    name: str
    run: Callable[[], dict[str, Any] | None]
    seconds: float = LIMIT_SECONDS
    row: str = ""
    after: tuple[str, ...] = ()


@dataclass
class Result:
    name: str
    outcome: str
    seconds: float = 0.0
    detail: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Progress(Protocol):
    """Record of the cases of a part, as journal.Journal keeps it."""

    def plan(self, cases: list[Case]) -> None: ...

    def start(self, name: str) -> None: ...

    def finish(self, result: Result) -> None: ...


def work_through(
    cases: list[Case], journal: Progress, deadline: float, skip: int = 0, quarantined: Collection[str] = ()
) -> None:
    """Run cases[skip:] and record their results, up to the first failure.

    After a failure the state of the process and of its GPU context is unknown, so the caller ends the process and goes
    on in a fresh one. No case starts after the deadline (time.monotonic), and none of a quarantined row.
    """
    if skip == 0:
        journal.plan(cases)
    for case in cases[skip:]:
        if barred := [row for row in (case.row, *case.after) if row in quarantined]:
            journal.finish(Result(case.name, NOT_RUN, detail=f"{barred[0]} is quarantined"))
            continue
        if time.monotonic() >= deadline:
            journal.finish(Result(case.name, NOT_RUN, detail="the time ran out"))
            continue
        journal.start(case.name)
        result = run_case(case)
        print(f"{result.outcome:8s} {result.seconds:8.2f} s  {result.name}  {result.detail}", flush=True)
        journal.finish(result)
        if result.outcome == FAILED:
            return


def run_case(case: Case) -> Result:
    begin = time.monotonic()
    result = Result(case.name, PASSED)
    try:
        result.figures = case.run() or {}
    except NotRun as reason:
        result.outcome, result.detail = NOT_RUN, str(reason)
    except Exception as failure:  # any exception is the result of its case
        result.outcome = FAILED
        result.figures = failure.figures if isinstance(failure, WrongResult) else {}
        lost = "the GPU context was lost: " if loses_context(failure) else ""
        result.detail = f"{lost}{type(failure).__name__}: {failure}"[:_DETAIL_LENGTH]
    result.seconds = round(time.monotonic() - begin, 3)
    return result


def loses_context(failure: BaseException) -> bool:
    """Whether no later call of this process can use the GPU: an error of the driver, of a kernel launch, of torch."""
    types = {kind.__name__ for kind in type(failure).__mro__}
    device_error = getattr(failure, "status", None) == _DEVICE_ERROR
    return isinstance(failure, DeviceLost) or device_error or _TORCH_ERROR in types


def outcome_of(results: list[Result]) -> str:
    outcomes = {result.outcome for result in results}
    if FAILED in outcomes:
        return FAILED
    if len(outcomes) == 1:
        return outcomes.pop()
    return INCOMPLETE if outcomes else NOT_RUN
