"""The sequences of the batch at hand, and which of their rows each process of the group holds.

A model that gets column indices shares the rows of its batch out (`share`), and computes its own. Whatever follows, up
to the next batch, finds them here: attention, also when it is computed again in the backward pass, and the losses.
Without context parallelism, every function here returns what it is given.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from paddle_flashmask import distributed, functional
from paddle_flashmask.masks import ColumnMask

from ..errors import DataError
from .sums import Total, Whole

Rows = tuple[tuple[tuple[int, int], ...], ...]
"""For every process the ranges of its rows, as in `distributed.flashmask_attention`."""
_BLOCK = 16  # the shortest chunk that `share_rows` takes by itself
_KEPT_SHARES = 8  # micro-batches of a step


@dataclass
class _Sequences:
    """group: the processes. rows: of each of them; empty while a batch is not divided. seqlen: rows of all."""

    group: Any
    rows: Rows = ()
    seqlen: int = 0
    index: Tensor | None = None


_current: _Sequences | None = None


@contextlib.contextmanager
def divided_over(group: Any) -> Iterator[None]:
    """Let models share their batches out to the processes of `group`."""
    global _current
    before, _current = _current, _Sequences(group)
    try:
        yield
    finally:
        _current = before


def share(columns: Tensor, causal: bool) -> None:
    """Choose the rows of each process for a batch, the same in all of them.

    columns: int32 [B, Hm, N, n], the mask. Raises DataError for sequences with fewer rows than processes.
    """
    sequences, values = _current, columns.numpy()
    sequences.rows = _rows_for(values.shape, values.tobytes(), causal, sequences.group.nranks)
    sequences.seqlen = values.shape[2]
    own = [np.arange(begin, end) for begin, end in sequences.rows[sequences.group.rank]]
    sequences.index = paddle.to_tensor(np.concatenate(own), place=columns.place)


def keep_whole() -> None:
    """Note that every process computes all rows of the batch."""
    _current.rows = ()


@functools.lru_cache(maxsize=_KEPT_SHARES)
def _rows_for(shape: tuple[int, ...], content: bytes, causal: bool, processes: int) -> Rows:
    mask = ColumnMask(np.frombuffer(content, np.int32).reshape(shape), causal, shape[2])
    if mask.seqlen_q < processes:
        raise DataError(
            f"a batch of {mask.seqlen_q} tokens cannot be divided over {processes} processes: set pad_to_multiple_of "
            f"to at least {processes}"
        )
    chunk = None if mask.seqlen_q > _BLOCK * (processes - 1) else mask.seqlen_q // processes
    return distributed.share_rows(mask, processes, chunk=chunk).rows


def seqlen() -> int:
    """Rows of a whole sequence, 0 if the batch is not divided."""
    return _current.seqlen if _divided() else 0


def own(rows: Tensor) -> Tensor:
    """The rows of this process, [B, S, ...], of all rows, [B, N, ...]."""
    return rows.index_select(_current.index, axis=1) if _divided() else rows


def whole(rows: Tensor) -> Tensor:
    """All rows, [B, N, ...], from those of each process, [B, S, ...]. See `sums` for the gradient."""
    if not _divided():
        return rows
    return Whole.apply(rows, _current.index, _current.seqlen, _current.group)


def total(part: Tensor) -> Tensor:
    """The sum of the tensors of all processes. See `sums` for the gradient."""
    return Total.apply(part, _current.group) if _divided() else part


def attention_operator() -> Callable[..., Tensor]:
    """The operator for the rows of the batch at hand."""
    if not _divided():
        return functional.flashmask_attention
    return functools.partial(distributed.flashmask_attention, rows=_current.rows, group=_current.group)


def _divided() -> bool:
    return _current is not None and bool(_current.rows)
