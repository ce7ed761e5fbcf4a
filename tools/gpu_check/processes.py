"""Programs whose descendants end with them.

A case runs in a session of its own. Its programs have process groups of their own inside that session, so that a time
limit ends one program and its children, and the end of the case ends everything.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from support.repository import REPOSITORY

KILL_SECONDS = 10.0  # a process inside the GPU driver may take long to die, or never
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_CUDA_PROGRAMS = Path("/usr/local/cuda/bin")
_OUTPUT_SHOWN = 1500
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_group() -> None:
    os.setpgid(0, 0)
    die_with_parent()


class TimedOut(subprocess.TimeoutExpired):
    """Program that was killed at its limit. The message ends with what it had written."""

    def __str__(self) -> str:
        return f"{super().__str__()}; its output ends with: {str(self.output)[-_OUTPUT_SHOWN:]}"


def find_program(name: str) -> str | None:
    """Path of a program of the CUDA toolkit, from PATH or the usual folder."""
    usual = _CUDA_PROGRAMS / name
    return shutil.which(name) or (str(usual) if usual.exists() else None)


def program_beside(library: Path, name: str) -> Path | None:
    """Program built beforehand that lies beside the library. A copy to another machine may have lost its mode."""
    program = library.with_name(name)
    if not program.exists():
        return None
    if not os.access(program, os.X_OK):
        program.chmod(0o755)
    return program


def run_program(
    command: list[Any], seconds: float, cwd: Path = REPOSITORY, echo: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a program with its output captured, and kill what is left of its process group when it ends.

    Args:
        echo: also print the output as it comes, so that it is known if this process is killed.

    Raises:
        TimedOut: it was killed after `seconds`, with its children.
    """
    words = [str(word) for word in command]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, preexec_fn=_own_group
    )
    deadline = time.monotonic() + seconds
    try:
        # A grandchild may hold the pipe open, so the end of the program is what is waited for.
        output, ended = _read_until_exit(process, deadline, echo)
    finally:
        _kill_group(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
    if not ended:
        raise TimedOut(words, seconds, output)
    return subprocess.CompletedProcess(words, process.returncode, output, "")


def _read_until_exit(process: subprocess.Popen[str], deadline: float, echo: bool) -> tuple[str, bool]:
    """Output of the process, and whether it ended before the deadline."""
    assert process.stdout
    descriptor = process.stdout.fileno()
    os.set_blocking(descriptor, False)
    parts: list[bytes] = []
    while True:
        ended = has_exited(process.pid)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(descriptor, 1 << 16):
                parts.append(chunk)
                if echo:
                    print(chunk.decode(errors="replace"), end="", flush=True)
        if ended or time.monotonic() >= deadline:
            return b"".join(parts).decode(errors="replace"), ended
        time.sleep(_POLL_SECONDS)


def has_exited(pid: int) -> bool:
    """Whether a child ended. It stays a zombie, so that its number is not given to another process."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_session(leader: subprocess.Popen[Any]) -> bool:
    """Kill every process of the session of `leader`, and reap the leader. False if some did not die in time."""
    deadline = time.monotonic() + KILL_SECONDS
    while alive := _members(leader.pid):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    try:
        leader.wait(max(deadline - time.monotonic(), 1.0))
    except subprocess.TimeoutExpired:
        return False
    return True


def _members(session: int) -> list[int]:
    """Processes of a session that are not zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything. After it: state, parent, group, session.
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found
