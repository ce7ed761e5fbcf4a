"""What the processes of a launched run tell each other; one process is all of them."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.distributed as dist


def is_first() -> bool:
    """Whether this process is the one that speaks and writes."""
    return dist.get_rank() == 0


def share_parameters(model: paddle.nn.Layer) -> None:
    """Gives all processes the parameters of the first: PaddleNLP seeds each by its rank, so what was drawn differs."""
    if dist.get_world_size() > 1:
        for parameter in model.parameters():
            dist.broadcast(parameter, src=0)


def joined(values: np.ndarray) -> np.ndarray:
    """The one-dimensional arrays of all processes, in the order of their ranks. Every process must call it."""
    if dist.get_world_size() == 1:
        return values
    everyone: list[np.ndarray] = []
    dist.all_gather_object(everyone, values)
    return np.concatenate(everyone)
