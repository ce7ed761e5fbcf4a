"""Communication between the processes of a launched run; without a launch there is one.

Processes that hold parts of one model (tensor parallel) or of one sequence (context parallel) train on the same
batches. Among them one speaks for the batch: `joined` takes its values once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import paddle
import paddle.distributed as dist
from paddle.distributed import fleet

T = TypeVar("T")


def is_first() -> bool:
    """Whether this process is the one that reports to the user and writes files."""
    return dist.get_rank() == 0


def share_parameters(model: paddle.nn.Layer) -> None:
    """Give all processes the parameters of the first, or of the first that holds the same part of the model.

    PaddleNLP seeds by rank, so random weights differ.
    """
    if dist.get_world_size() == 1:
        return
    groups, model_group = _groups()
    for parameter in model.parameters():
        for group in groups:
            _broadcast(parameter, group)
        if model_group is not None and not parameter.is_distributed:
            _broadcast(parameter, model_group)


def from_first(decide: Callable[[], T]) -> T:
    """Call `decide` in the first process and return its result in every process, or raise its error there.

    Every process must call this.
    """
    if dist.get_world_size() == 1:
        return decide()
    decision: list[Any] = [None, None]
    if is_first():
        try:
            decision[0] = decide()
        except Exception as error:
            decision[1] = error
    dist.broadcast_object_list(decision, src=0)
    result, error = decision
    if error is not None:
        raise error
    return result


def wait_for_all() -> None:
    """Wait until every process is here."""
    if dist.get_world_size() > 1:
        dist.barrier()


def of_every_process(value: T) -> list[T]:
    """The values of all processes in rank order. Every process must call it."""
    if dist.get_world_size() == 1:
        return [value]
    values: list[T] = []
    dist.all_gather_object(values, value)
    return values


def joined(values: np.ndarray) -> np.ndarray:
    """Concatenate the one-dimensional arrays of all batches, one from each group of processes that share a batch.

    Every process must call it.
    """
    hybrid = hybrid_groups()
    speaks = hybrid is None or (hybrid.get_model_parallel_rank() == 0 and hybrid.get_sep_parallel_rank() == 0)
    return np.concatenate([part for part in of_every_process(values if speaks else None) if part is not None])


def _broadcast(parameter: paddle.Tensor, group: Any) -> None:
    if group.nranks > 1:
        dist.broadcast(parameter, src=group.ranks[0], group=group)


def _groups() -> tuple[list[Any], Any]:
    """The groups of processes with the same part of the model, and the group whose parts are one model."""
    hybrid = hybrid_groups()
    if hybrid is None:
        return [dist.get_group(0)], None
    context = [group] if (group := context_group()) is not None else []
    groups = [*context, hybrid.get_sharding_parallel_group(), hybrid.get_data_parallel_group()]
    return groups, hybrid.get_model_parallel_group()


def hybrid_groups() -> Any:
    """Fleet's groups, or None where processes train data parallel without fleet."""
    return getattr(fleet.fleet, "_hcg", None)


def context_group() -> Any:
    """The group of processes that hold parts of the same sequences, or None where each holds whole ones."""
    hybrid = hybrid_groups()
    if hybrid is None or hybrid.get_sep_parallel_world_size() == 1:
        return None
    return hybrid.get_sep_parallel_group()
