"""Lines of data files converted in several processes, in the order of the files.

The processes are started as programs of their own, because a process that has imported Paddle must not be forked, and
because `multiprocessing` would run the user's script again. They end when this process does: a process whose connection
closes exits at once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import paddle_flashmask

from ..errors import RunError
from .line_tokens import LineTokens, Outcome, outcome_of
from .lines import Line

CHUNK = 32
"""Lines in a message."""
IN_FLIGHT = 2
"""Chunks that a process has at a time, so that it never waits for the next."""
PATIENCE = 5.0
"""Seconds of converting here before processes are started: about what their start takes, so that it never more than
doubles the time."""

Placed = tuple[Outcome, str]


def converted(
    rows: LineTokens, lines: Iterable[Line], source: Any, processes: int, patience: float = PATIENCE
) -> Iterator[Placed]:
    """What every line becomes, and its place, in the order of the lines.

    The first lines are converted here, and those that come while the processes start. At most CHUNK * IN_FLIGHT lines
    of each process are in memory. source: has `load()`, which makes the tokenizer of `rows` in another process.

    Raises RunError where a process is killed, cannot start or refuses the tokenizer.
    """
    lines = iter(lines)
    seconds = 0.0
    while seconds < patience:
        placed = list(itertools.islice(lines, 1))
        if not placed:
            return
        started = time.perf_counter()
        outcome = outcome_of(rows, *placed[0])
        seconds += time.perf_counter() - started
        yield outcome, placed[0][1]
    first = list(itertools.islice(lines, CHUNK))  # the last lines are not worth a process
    if len(first) < CHUNK:
        yield from _here(rows, first)
        return
    lines = itertools.chain(first, lines)
    with _Processes(processes, pickle.dumps((replace(rows, tokenizer=None), source))) as started_ones:
        for line in lines:
            yield from _here(rows, [line])
            if started_ones.are_ready():
                yield from started_ones.converted(lines)


def _here(rows: LineTokens, lines: Iterable[Line]) -> Iterator[Placed]:
    return ((outcome_of(rows, record, place), place) for record, place in lines)


class _Processes:
    """Processes of `tokenize_process`, which get chunks of lines in turn."""

    def __init__(self, count: int, setup: bytes):
        self._all: list[_Process] = []
        self._waiting: set[_Process] = set()
        try:
            for _ in range(count):
                self._all.append(_Process(setup))
        except BaseException:
            self.__exit__()
            raise
        self._waiting.update(self._all)

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *error: Any) -> None:
        for process in self._all:
            process.end()

    def are_ready(self) -> bool:
        """Whether all have loaded the tokenizer. Raises RunError where one has found another tokenizer."""
        for process in [process for process in self._waiting if process.has_message()]:
            if (error := process.receive()) is not None:
                raise error
            self._waiting.remove(process)
        return not self._waiting

    def converted(self, lines: Iterator[Line]) -> Iterator[Placed]:
        """What the lines become. An error in reading them is raised after the lines before it."""
        chunks = _Chunks(lines)
        pending: deque[tuple[_Process, list[str]]] = deque()
        for chunk, process in zip(chunks, itertools.cycle(self._all), strict=False):
            process.send(chunk)
            pending.append((process, [place for _, place in chunk]))
            if len(pending) == IN_FLIGHT * len(self._all):
                yield from _received(*pending.popleft())
        while pending:
            yield from _received(*pending.popleft())
        if chunks.error is not None:
            raise chunks.error


def _received(process: _Process, places: list[str]) -> Iterator[Placed]:
    return zip(process.receive(), places, strict=True)


class _Chunks:
    """The lines in chunks, up to an error in reading them, which is kept."""

    def __init__(self, lines: Iterator[Line]):
        self._lines = lines
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[list[Line]]:
        while self.error is None:
            chunk: list[Line] = []
            try:
                for line in itertools.islice(self._lines, CHUNK):
                    chunk.append(line)
            except Exception as error:
                self.error = error
            if not chunk:
                return
            yield chunk


class _Process:
    """One process, with the connection to it."""

    def __init__(self, setup: bytes):
        here, there = socket.socketpair()
        self._connection = Connection(here.detach())
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__package__}.tokenize_process import serve; serve({there.fileno()})"],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[there.fileno()],
                env=_environment(),
            )
        finally:
            there.close()
        self.send_bytes(setup)

    def has_message(self) -> bool:
        return self._connection.poll()

    def send_bytes(self, message: bytes) -> None:
        with self._lost_named():
            self._connection.send_bytes(message)

    def send(self, message: Any) -> None:
        self.send_bytes(pickle.dumps(message))

    def receive(self) -> Any:
        with self._lost_named():
            return self._connection.recv()

    @contextlib.contextmanager
    def _lost_named(self) -> Iterator[None]:
        """Raise RunError with the reason where the process has ended."""
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise RunError(f"a process that turns rows into tokens {self._end_in_words()}") from error

    def _end_in_words(self) -> str:
        code = self._process.wait()
        if code < 0:
            return (
                f"was killed by {signal.Signals(-code).name}, perhaps because memory ran out; fewer of them need less "
                "(tokenize_processes)"
            )
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f"failed with exit status {code}: {lines[-1] if lines else 'no message'}"

    def end(self) -> None:
        self._process.kill()
        self._connection.close()
        self._process.wait()
        self._errors.close()


def _environment() -> dict[str, str]:
    """The environment of a process that takes no GPU and one core, and finds this package."""
    package = str(Path(paddle_flashmask.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **own, "PYTHONPATH": os.pathsep.join(paths)}
