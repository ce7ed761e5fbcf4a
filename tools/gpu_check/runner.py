"""Processes for the cases of one part, so that a crash, a hang or a lost GPU context costs one case."""

from __future__ import annotations

import collections
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.repository import REPOSITORY, python_environment

from . import hang
from .journal import FILE, Journal
from .outcome import FAILED, LIMIT_SECONDS, NOT_RUN, PASSED, Result
from .plan import PARTS, Settings
from .processes import has_exited, kill_session

HANGS_BEFORE_QUARANTINE = 2
FAILURES_BEFORE_QUARANTINE = 10  # of a row of which nothing has passed; each costs a process
MOST_PICTURES = 4  # of hung kernels in a run; each takes seconds
STARTUP_SECONDS = 60.0  # to list the cases
FIRST_CASE_SECONDS = 15.0  # more for the first case of a process, which loads torch and opens the GPU
_POLL_SECONDS = 0.02
_TIME_RAN_OUT = "the time ran out"


class Runner:
    """Runs parts, and counts the hangs and failures of each kernel row across them."""

    def __init__(self) -> None:
        self.report: Callable[[list[Result]], object] = lambda results: None  # called after every case
        self.hangs: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[tuple[str, str]] = collections.Counter()  # of (row, outcome)
        self._pictures = 0
        self._dumps = tempfile.TemporaryDirectory()

    @property
    def quarantined(self) -> list[str]:
        hung = {row for row, hangs in self.hangs.items() if hangs >= HANGS_BEFORE_QUARANTINE}
        failed = {
            row
            for (row, outcome), count in self.outcomes.items()
            if row and outcome == FAILED and count >= FAILURES_BEFORE_QUARANTINE and not self.outcomes[row, PASSED]
        }
        return sorted(hung | failed)

    def run_part(self, settings: Settings, seconds: float) -> list[Result]:
        """Results of every case of the part, in order. Cases that no process reached are `not run`."""
        deadline = time.monotonic() + seconds
        journal = Journal(settings.out / FILE, settings.part)
        while True:
            done = len(journal.results)
            ending = self._run_process(settings, journal, deadline)
            if journal.planned is None:
                return [Result("start", FAILED, detail=f"the process {ending} before its first case")]
            if journal.unfinished:
                self._close(journal, ending)
            self._reported(journal)
            rows = [case["row"] for case in journal.planned]
            self.outcomes.update(
                (row, result.outcome) for row, result in zip(rows[done:], journal.results[done:], strict=False)
            )
            left = journal.planned[len(journal.results) :]
            if not left:
                return journal.results
            if len(journal.results) == done:
                why = f"the process {ending} before this case"
                return journal.results + [Result(case["name"], NOT_RUN, detail=why) for case in left]

    def _reported(self, journal: Journal) -> None:
        if journal.results:
            self.report(journal.results)

    def _close(self, journal: Journal, ending: str) -> None:
        """Record the result of a case whose process ended before it."""
        case = _planned(journal)
        if ending == _TIME_RAN_OUT:
            result = Result(case["name"], NOT_RUN, detail=f"{ending} in this case")
        else:
            result = Result(case["name"], FAILED, detail=f"the process {ending} in this case")
            if case["row"] and "limit" in ending:
                self.hangs[case["row"]] += 1
        journal.finish(result)
        journal.refresh()

    def _run_process(self, settings: Settings, journal: Journal, deadline: float) -> str:
        """Start a process and watch it to its end. Returns how it ended."""
        with (settings.out / PARTS[settings.part].log).open("a") as log:
            log.write(f"== {settings.part}\n")
            log.flush()
            process = subprocess.Popen(
                self._command(settings, journal, deadline),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=python_environment() | self._debugging(settings),
                start_new_session=True,
            )
            killed = ""
            try:
                killed = self._watch(process, journal, deadline)
                if killed and killed != _TIME_RAN_OUT and self._pictures < MOST_PICTURES:
                    self._pictures += 1
                    log.write(f"== {journal.unfinished or 'start'} {killed}\n")
                    hang.dump(process.pid, Path(self._dumps.name), settings.out, log)
            finally:
                died = kill_session(process)
        journal.refresh()
        if killed:
            return killed if died else f"{killed} and did not die"
        status = process.returncode
        return f"died of signal {-status}" if status < 0 else f"ended with status {status}"

    def _debugging(self, settings: Settings) -> dict[str, str]:
        """Variables for a core dump of a hung kernel, once one has hung: a driver may refuse them, or be slower."""
        plain = not self.hangs or PARTS[settings.part].undisturbed
        return {} if plain else hang.environment(Path(self._dumps.name))

    def _command(self, settings: Settings, journal: Journal, deadline: float) -> list[str]:
        part = PARTS[settings.part]
        command: list[Any] = [sys.executable, "-m", f"{__package__}.worker", part.module, part.function]
        command += ["--part", settings.part, "--library", settings.library, "--out", settings.out]
        command += ["--seconds", max(deadline - time.monotonic(), 0.0), "--skip", len(journal.results)]
        command += ["--only", settings.only, *(f"--quarantined={row}" for row in self.quarantined)]
        command += ["--emulated"] * settings.emulated
        return [str(word) for word in command]

    def _watch(self, process: subprocess.Popen[Any], journal: Journal, deadline: float) -> str:
        """Wait until the process ends or must be killed. Returns the reason to kill it, or ""."""
        since, done = time.monotonic(), len(journal.results)
        while not has_exited(process.pid):
            if journal.refresh():
                since = time.monotonic()
                self._reported(journal)
            limit = STARTUP_SECONDS
            if journal.unfinished:
                limit = _planned(journal)["seconds"]
                limit += FIRST_CASE_SECONDS if len(journal.results) == done else 0.0
            now = time.monotonic()
            if now - since > limit:
                return f"was killed at its limit of {limit:.0f} s"
            if now > deadline and now - since > LIMIT_SECONDS / 5:  # a running case may still finish
                return _TIME_RAN_OUT
            time.sleep(_POLL_SECONDS)
        return ""


def _planned(journal: Journal) -> dict[str, Any]:
    """Name, limit and row of the case that is running: the next one without a result."""
    assert journal.planned is not None
    return journal.planned[len(journal.results)]
