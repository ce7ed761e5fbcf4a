"""Runs a part in processes of its own, so that a crash, a hang or a lost GPU context costs one case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .outcome import FAILED, NOT_RUN, Journal, Result
from .plan import PARTS, REPOSITORY, Settings

MAX_PROCESSES = 6
GRACE_SECONDS = 20.0  # past its time a part may finish the case it is in


def run_part(settings: Settings, seconds: float) -> list[Result]:
    """The results of every case of the part, in order; cases that no process reached are not run."""
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
        return results + [Result(name, NOT_RUN, detail="no process got this far") for name in missing]


def _run_process(settings: Settings, journal: Journal, seconds: float) -> int | None:
    """Its exit status; None when it had to be stopped."""
    command: list[Any] = [sys.executable, "-m", f"{__package__}.worker", settings.part]
    command += ["--library", settings.library, "--out", settings.out, "--journal", journal.path]
    command += ["--seconds", seconds, "--skip", len(journal.results), "--only", settings.only]
    command += ["--emulated"] * settings.emulated
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests"), *_given_python_path()])
    with (settings.out / PARTS[settings.part].log).open("a") as log:
        log.write(f"== {settings.part}\n")
        log.flush()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=environment,
            start_new_session=True,
        )
        try:
            return process.wait(seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def _given_python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _describe(status: int | None) -> str:
    if status is None:
        return "was stopped, out of time,"
    return f"died of signal {-status}" if status < 0 else f"ended with status {status}"
