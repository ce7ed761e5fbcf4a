"""Subprocesses for one part, so that a crash, a hang or a lost GPU context costs one case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support.repository import REPOSITORY, python_environment

from .outcome import FAILED, NOT_RUN, Journal, Result
from .plan import PARTS, Settings

MAX_PROCESSES = 6
GRACE_SECONDS = 20.0  # for the running case to finish after the time limit


def run_part(settings: Settings, seconds: float) -> list[Result]:
    """Results of every case of the part, in order. Cases that no process reached are `not run`."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal")
        for _ in range(MAX_PROCESSES):
            left = seconds - (time.monotonic() - begin)
            status = _run_process(settings, journal, max(left, 0.0))
            if journal.planned is None:
                return [Result("start", FAILED, detail=f"the process {_describe(status)} before its first case")]
            if journal.unfinished:
                detail = f"the process {_describe(status)} in this case"
                journal.finish(Result(journal.unfinished, FAILED, detail=detail))
            if len(journal.results) == len(journal.planned):
                break
        results = journal.results
        missing = journal.planned[len(results) :]
        return results + [Result(name, NOT_RUN, detail="no process reached this case") for name in missing]


def _run_process(settings: Settings, journal: Journal, seconds: float) -> int | None:
    """Exit status, or None if the process was killed at the time limit."""
    command: list[Any] = [sys.executable, "-m", f"{__package__}.worker", settings.part]
    command += ["--library", settings.library, "--out", settings.out, "--journal", journal.path]
    command += ["--seconds", seconds, "--skip", len(journal.results), "--only", settings.only]
    command += ["--emulated"] * settings.emulated
    with (settings.out / PARTS[settings.part].log).open("a") as log:
        log.write(f"== {settings.part}\n")
        log.flush()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=python_environment(),
            start_new_session=True,
        )
        try:
            return process.wait(seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def _describe(status: int | None) -> str:
    if status is None:
        return "was killed at its time limit"
    return f"died of signal {-status}" if status < 0 else f"ended with status {status}"
