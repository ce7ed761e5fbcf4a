"""One run per output folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import ConfigError

LOCK_NAME = ".running.json"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def folder_lock(folder: Path, write: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder, which is made if it is missing. The system releases the lock of a killed process.

    The lock file names the process and its host. Raises ConfigError while another process holds the folder.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"output_dir = {str(folder)!r} cannot be written: {error.strerror}") from error
    try:
        _take(descriptor, path, write)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)  # an empty file: the run ended by itself
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, write: Callable[[str], None]) -> None:
    holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            write(f"note: {path.parent} is on a file system without locks: a second run there would go unnoticed")
            return
        raise ConfigError(
            f"output_dir = {str(path.parent)!r} is in use by another run{_named(holder)}; use another output_dir"
        ) from error
    if holder:
        write(f"note: the last run in {path.parent}{_named(holder)} was killed; its lock is taken over")


def _named(holder: str) -> str:
    try:
        values = json.loads(holder)
        return f" (process {values['pid']} on {values['host']})"
    except (ValueError, KeyError, TypeError):
        return ""
