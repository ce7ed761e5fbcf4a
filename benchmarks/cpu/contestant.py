"""Contestants, each in its own process so that threads and heaps do not interfere."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from .problem import Problem

# Module and function of each contestant. The function turns a problem into calls.
CONTESTANTS = {
    "ours": ("ours", "flashmask"),
    "torch_sdpa": ("torch_peers", "sdpa"),
    "torch_flex": ("torch_peers", "flex"),
}

# OpenMP threads spin for up to 200 ms after their last work, on a core that the next contestant needs.
SETTLE_SECONDS = 0.3

# The fastest counts, because on a shared machine any call may be disturbed. Long calls average over disturbances.
CALLS_PER_TURN = 3
LONG_SECONDS = 1.5


def _serve(name: str, connection: Connection) -> None:
    module, function = CONTESTANTS[name]
    build = getattr(importlib.import_module(f".{module}", __package__), function)
    directions = {}
    while (request := connection.recv()) is not None:
        if isinstance(request, Problem):
            directions = build(request)
            for call in directions.values():
                call()
            connection.send(list(directions))
        else:
            call = directions[request]
            call()  # warm-up: an idle processor starts slowly
            connection.send(_fastest(call))


def _fastest(call: Callable[[], object]) -> float:
    """The seconds of the fastest of CALLS_PER_TURN calls, or of fewer once LONG_SECONDS have passed."""
    taken: list[float] = []
    while len(taken) < CALLS_PER_TURN and sum(taken) < LONG_SECONDS:
        taken.append(_seconds(call))
    return min(taken)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Contestant:
    def __init__(self, name: str) -> None:
        self.name = name
        self.directions: list[str] = []
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def prepare(self, problem: Problem) -> None:
        """Make the tensors and run every direction once."""
        self._connection.send(problem)
        self.directions = self._connection.recv()

    def seconds(self, direction: str) -> float:
        time.sleep(SETTLE_SECONDS)
        self._connection.send(direction)
        return self._connection.recv()

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()
