"""Messages between the ranks of a group, in steps that every rank runs in the same order.

In a step a rank sends at most one message and receives at most one. NCCL starts both at once and overlaps them with
later work. Gloo (Paddle on the CPU) broadcasts the messages one after the other: its point-to-point messages are
numbered per process, so that they meet only while every process has sent and received equally many.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor


@dataclass
class Message:
    """A step in progress."""

    _received: Tensor
    _sent: Tensor  # kept until it has left
    _tasks: list[Any] = field(default_factory=list)

    def wait(self) -> Tensor:
        """Return the received tensor once later work may read it."""
        for task in self._tasks:
            task.wait()
        return self._received


class Exchange:
    """The messages of this process in one group.

    Attributes:
        rank, ranks: place of this process in the group and its size.
    """

    def __init__(self, group: Any | None) -> None:
        if group is None and not dist.is_initialized():
            self.rank, self.ranks = 0, 1
            return
        self._group = dist.collective._get_default_group() if group is None else group
        self.rank, self.ranks = self._group.rank, self._group.nranks
        if self.rank < 0:
            raise ValueError(f"process {dist.get_rank()} is not in the group of processes {self._group.ranks}")

    def gather(self, values: list[int]) -> list[list[int]]:
        """Return the integers of every rank; every rank gives equally many."""
        if self.ranks == 1:
            return [values]
        parts: list[Tensor] = []
        dist.all_gather(parts, paddle.to_tensor(values, "int64"), group=self._group)
        return [part.tolist() for part in parts]

    def start(self, message: Tensor, to: int, received: Tensor, sender: int) -> Message:
        """Send `message` to one rank of the group and fill `received` from another; empty tensors are not sent.

        Every rank of the group calls it, with tensors of one dtype.
        """
        if dist.get_backend(self._group) == "GLOO":
            self._broadcast(message, received, sender)
            return Message(received, message)
        operations = []
        if message.size:
            operations.append(dist.P2POp(dist.isend, message, self._group.ranks[to], self._group))
        if received.size:
            operations.append(dist.P2POp(dist.irecv, received, self._group.ranks[sender], self._group))
        return Message(received, message, dist.batch_isend_irecv(operations) if operations else [])

    def _broadcast(self, message: Tensor, received: Tensor, sender: int) -> None:
        """Broadcast the message of every rank in turn; the ranks that it is not for drop it."""
        for source, (size,) in enumerate(self.gather([message.size])):
            if size == 0:
                continue
            if source == self.rank:
                tensor = message
            elif source == sender:
                tensor = received
            else:
                tensor = paddle.empty([size], message.dtype)
            dist.broadcast(tensor, src=self._group.ranks[source], group=self._group)
