"""Ranks of a group as threads of this process: the steps of context parallel attention without a process group."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import paddle

SECONDS = 120  # for a message that never comes


class Group:
    """Mailboxes of all ranks."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.boxes = {pair: queue.Queue() for pair in itertools.product(range(ranks), repeat=2)}  # (sender, receiver)
        self.sent = [0] * ranks  # elements of the messages of each rank
        self.gathered: list[Any] = [None] * ranks
        self.barrier = threading.Barrier(ranks, timeout=SECONDS)

    def run(self, program: Callable[[ThreadExchange], Any]) -> list[Any]:
        """Run the program on every rank and return its results."""
        with ThreadPoolExecutor(self.ranks) as pool:
            futures = [pool.submit(program, ThreadExchange(self, rank)) for rank in range(self.ranks)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, queue.Empty)):
            raise error  # the cause before the ranks that waited for it
        return [future.result() for future in futures]


class ThreadExchange:
    """The interface of `exchange.Exchange`. A message arrives as late as possible: when it is waited for."""

    def __init__(self, group: Group, rank: int) -> None:
        self._group, self.rank, self.ranks = group, rank, group.ranks

    def gather(self, values: list[int]) -> list[list[int]]:
        self._group.gathered[self.rank] = values
        self._group.barrier.wait()
        gathered = list(self._group.gathered)
        self._group.barrier.wait()
        return gathered

    def start(self, message, to: int, received, sender: int) -> ThreadMessage:
        if message.size:
            self._group.sent[self.rank] += message.size
            self._group.boxes[self.rank, to].put(message.clone())
        return ThreadMessage(received, self._group.boxes[sender, self.rank] if received.size else None)


class ThreadMessage:
    def __init__(self, received, box: queue.Queue | None) -> None:
        self._received, self._box = received, box

    def wait(self):
        if self._box is not None:
            paddle.assign(self._box.get(timeout=SECONDS), self._received)
        return self._received
