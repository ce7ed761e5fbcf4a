"""The last step of every builder: bounds to a ColumnMask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .column_mask import ColumnMask


def column_mask(*bounds: np.ndarray, causal: bool, seqlen: int) -> ColumnMask:
    """Build a square mask with one head from its bounds, each int [B or 1, S or 1]."""
    bounds = np.broadcast_arrays(*bounds, np.empty((1, seqlen)))[:-1]
    values = np.stack(bounds, axis=-1)[:, None]
    return ColumnMask(np.ascontiguousarray(values, dtype=np.int32), causal, seqlen)


def padded_mask(rows: Sequence[Sequence[np.ndarray]], causal: bool, seqlen: int) -> ColumnMask:
    """Build a square mask with one head from the bounds of each batch row, each int [T] with T <= S.

    All bounds of a padding key equal T: no token sees it. Every other bound is at most T, so padding rows see nothing.
    """
    values = np.empty((len(rows), 1, seqlen, len(rows[0])), dtype=np.int32)
    for row, bounds in enumerate(rows):
        total = len(bounds[0])
        values[row, 0, total:] = total
        for channel, bound in enumerate(bounds):
            values[row, 0, :total, channel] = bound
    return ColumnMask(values, causal, seqlen)


def keys(seqlen: int) -> np.ndarray:
    """int64 [1, S]: the position of each key."""
    return np.arange(seqlen, dtype=np.int64)[None]
