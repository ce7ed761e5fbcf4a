"""Picture of a hung kernel, taken before its process is killed: kernels and warps, by the debugger."""

from __future__ import annotations

import shutil
import subprocess
from typing import TextIO

from .processes import run_program

_SECONDS = 10.0
_COMMANDS = ("info cuda kernels", "info cuda warps", "info cuda lanes")


def dump(pid: int, log: TextIO) -> None:
    """Append what cuda-gdb says about the process; nothing without a debugger."""
    debugger = shutil.which("cuda-gdb")
    if not debugger:
        return
    command = [debugger, "--batch", "-p", str(pid)]
    for text in _COMMANDS:
        command += ["-ex", text]
    try:
        log.write(run_program(command, _SECONDS).stdout)
    except (OSError, subprocess.TimeoutExpired) as failure:
        log.write(f"the debugger failed: {failure}\n")
    log.flush()
