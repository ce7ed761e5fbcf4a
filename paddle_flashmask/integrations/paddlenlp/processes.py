"""Communication between the processes of a launched run; without a launch there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import paddle
import paddle.distributed as dist

T = TypeVar("T")


def is_first() -> bool:
    """Whether this process is the one that reports to the user and writes files."""
    return dist.get_rank() == 0


def share_parameters(model: paddle.nn.Layer) -> None:
    """Broadcast the parameters of the first process: PaddleNLP seeds by rank, so random weights differ."""
    if dist.get_world_size() > 1:
        for parameter in model.parameters():
            dist.broadcast(parameter, src=0)


def from_first(decide: Callable[[], T]) -> T:
    """Call `decide` in the first process and return its result in every process. Every process must call this."""
    if dist.get_world_size() == 1:
        return decide()
    decision = [decide() if is_first() else None]
    dist.broadcast_object_list(decision, src=0)
    return decision[0]


def wait_for_all() -> None:
    """Wait until every process is here."""
    if dist.get_world_size() > 1:
        dist.barrier()


def joined(values: np.ndarray) -> np.ndarray:
    """Concatenate the one-dimensional arrays of all processes in rank order. Every process must call it."""
    if dist.get_world_size() == 1:
        return values
    everyone: list[np.ndarray] = []
    dist.all_gather_object(everyone, values)
    return np.concatenate(everyone)
