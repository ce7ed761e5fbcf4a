"""Picture of a hung kernel, taken before its process is killed: which line each thread waits on.

From a core dump where the process was started to write one, without the memory that would make it large; otherwise by
attaching the debugger. Source lines come from `-lineinfo`. Dumps stay in ARCHIVE, and
`cuda-gdb -ex "target cudacore FILE" -ex "info cuda threads"` reads them later. (CUDA-GDB, "GPU Core Dump Support")
"""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TextIO

from .processes import find_program, run_program

ARCHIVE = "hangs.tar"
MOST_BYTES = 15 << 20  # of the archive
_SECONDS = 15.0
_COMMANDS = ("info cuda kernels", "info cuda warps", "info cuda threads")
_PIPE, _CORE = "hang.{}.pipe", "hang.{}.nvcudmp"  # of a process
_LEFT_OUT = ("nonrelocated_elf_images", "global_memory", "shared_memory", "local_memory", "constbank_memory")
_POLL_SECONDS = 0.05
_SETTLED_SECONDS = 0.5  # a file that has not grown for this long is complete


def environment(folder: Path) -> dict[str, str]:
    """Variables with which the driver writes a core dump of a process to the folder when `dump` asks for it."""
    return {
        "CUDA_ENABLE_USER_TRIGGERED_COREDUMP": "1",
        "CUDA_COREDUMP_PIPE": str(folder / _PIPE.format("%p")),
        "CUDA_COREDUMP_FILE": str(folder / _CORE.format("%p")),
        "CUDA_COREDUMP_GENERATION_FLAGS": ",".join(f"skip_{part}" for part in _LEFT_OUT),
    }


def dump(pid: int, folder: Path, out: Path, log: TextIO) -> None:
    """Append to the log what the debugger shows of the process, and keep its core dump.

    Args:
        folder: that of `environment`, if the process was started with it.
        out: folder of ARCHIVE.
    """
    debugger = find_program("cuda-gdb")
    try:
        process = ["-p", str(pid)]
        if (folder / _PIPE.format(pid)).is_fifo():
            core = _core_dump(pid, folder)
            log.write(f"core dump of the GPU: {core.name}, {core.stat().st_size} bytes\n")
            _keep(core, out / ARCHIVE)
            process = ["-ex", f"target cudacore {core}"]
        if debugger:
            command = [debugger, "--batch", *process]
            for text in _COMMANDS:
                command += ["-ex", text]
            log.write(run_program(command, _SECONDS).stdout)
    except (OSError, subprocess.TimeoutExpired, TimeoutError) as failure:
        log.write(f"no picture of the hung kernel: {failure}\n")
    log.flush()


def _keep(core: Path, archive: Path) -> None:
    """Append the core dump, compressed, as long as the archive stays small."""
    packed = core.with_suffix(core.suffix + ".gz")
    packed.write_bytes(gzip.compress(core.read_bytes()))
    size = archive.stat().st_size if archive.exists() else 0
    if size + packed.stat().st_size <= MOST_BYTES:
        with tarfile.open(archive, "a") as tar:
            tar.add(packed, packed.name)


def _core_dump(pid: int, folder: Path) -> Path:
    """Ask the driver for a core dump and wait until it is written. Raises TimeoutError."""
    pipe = os.open(folder / _PIPE.format(pid), os.O_WRONLY | os.O_NONBLOCK)  # an error where no driver reads it
    try:
        os.write(pipe, b"\0")
        core = folder / _CORE.format(pid)
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
