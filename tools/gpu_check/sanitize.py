"""Small cases under compute-sanitizer, one process per tool and case."""

from __future__ import annotations

import re
import sys

from .cases import problem_of, runs_on_90
from .outcome import Case, NotRun
from .plan import Settings
from .processes import find_program, run_program
from .sanitize_driver import CASES

TOOLS = ("memcheck", "synccheck", "racecheck", "initcheck")
# These may misreport asynchronous copies and wgmma, so what they find in the 9.0 kernels is no failure.
ADVISORY = ("racecheck", "initcheck")
_SECONDS = 60.0
_ERROR_STATUS = 99


def cases(settings: Settings) -> list[Case]:
    return [
        Case(f"{tool}: {name}", lambda tool=tool, name=name: sanitize(tool, name, settings), _SECONDS)
        for tool in TOOLS
        for name in CASES
    ]


def sanitize(tool: str, name: str, settings: Settings) -> None:
    program = find_program("compute-sanitizer")
    if not program:
        raise NotRun("compute-sanitizer was not found")
    command = [program, "--tool", tool, "--error-exitcode", str(_ERROR_STATUS), "--print-limit", "5"]
    command += [sys.executable, "-m", f"{__package__}.sanitize_driver", str(settings.library), name, tool]
    done = run_program(command, _SECONDS, echo=True)
    try:
        judge(done.stdout, done.returncode)
    except AssertionError as finding:
        if tool in ADVISORY and runs_on_90(problem_of(CASES[name])):
            raise NotRun(f"advisory for the 9.0 kernels: {finding}") from None
        raise


def judge(output: str, status: int) -> None:
    """Raise unless the tool reports a clean run and the driver finished."""
    if "not supported" in output:
        raise NotRun(f"the tool refuses this device: {output[-300:]}")
    assert status == 0, f"status {status}: {output[-1500:]}"
    clean = re.search(r"ERROR SUMMARY: 0 errors", output) or re.search(
        r"RACECHECK SUMMARY: 0 hazards displayed \(0 errors, 0 warnings\)", output
    )
    assert clean, f"no clean summary: {output[-1500:]}"
    assert "results are right" in output, f"the driver did not finish: {output[-1500:]}"
