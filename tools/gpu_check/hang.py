"""Picture of a hung kernel, taken before its process is killed: which line each thread waits on.

By the debugger where there is one. Elsewhere the driver writes a core dump, without the memory that would make it
large, which `cuda-gdb -ex "target cudacore FILE" -ex "info cuda threads"` reads later. Source lines come from
`-lineinfo`. (CUDA-GDB, "GPU Core Dump Support")
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TextIO

from .processes import run_program

_SECONDS = 10.0
_COMMANDS = ("info cuda kernels", "info cuda warps", "info cuda threads")
_PIPE, _CORE = "hang.{}.pipe", "hang.{}.nvcudmp"  # of a process
_LEFT_OUT = ("nonrelocated_elf_images", "global_memory", "shared_memory", "local_memory", "constbank_memory")
_POLL_SECONDS = 0.05
_SETTLED_SECONDS = 0.5  # a file that has not grown for this long is complete


def environment(out: Path) -> dict[str, str]:
    """Variables with which the driver writes a core dump of a process to the folder when `dump` asks for it."""
    return {
        "CUDA_ENABLE_USER_TRIGGERED_COREDUMP": "1",
        "CUDA_COREDUMP_PIPE": str(out / _PIPE.format("%p")),
        "CUDA_COREDUMP_FILE": str(out / _CORE.format("%p")),
        "CUDA_COREDUMP_GENERATION_FLAGS": ",".join(f"skip_{part}" for part in _LEFT_OUT),
    }


def dump(pid: int, out: Path, log: TextIO) -> None:
    """Append what the debugger shows of the process, or the name of a core dump; nothing for a process without CUDA."""
    debugger = shutil.which("cuda-gdb")
    try:
        if debugger:
            command = [debugger, "--batch", "-p", str(pid)]
            for text in _COMMANDS:
                command += ["-ex", text]
            log.write(run_program(command, _SECONDS).stdout)
        elif (out / _PIPE.format(pid)).is_fifo():
            log.write(f"core dump of the GPU: {_core_dump(pid, out)}\n")
    except (OSError, subprocess.TimeoutExpired, TimeoutError) as failure:
        log.write(f"no picture of the hung kernel: {failure}\n")
    log.flush()


def remove_pipe(pid: int, out: Path) -> None:
    (out / _PIPE.format(pid)).unlink(missing_ok=True)


def _core_dump(pid: int, out: Path) -> Path:
    """Ask the driver for a core dump and wait until it is written. Raises TimeoutError."""
    pipe = os.open(out / _PIPE.format(pid), os.O_WRONLY | os.O_NONBLOCK)  # an error where no driver reads it
    try:
        os.write(pipe, b"\0")
        core = out / _CORE.format(pid)
        deadline = time.monotonic() + _SECONDS
        size, since = 0, time.monotonic()
        while time.monotonic() < deadline:
            now = core.stat().st_size if core.exists() else 0
            if now != size:
                size, since = now, time.monotonic()
            elif size and time.monotonic() - since > _SETTLED_SECONDS:
                return core
            time.sleep(_POLL_SECONDS)
    finally:
        os.close(pipe)
    raise TimeoutError(f"the driver wrote {size} bytes in {_SECONDS:.0f} s")
