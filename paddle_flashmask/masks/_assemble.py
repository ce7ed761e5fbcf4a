"""The last step of every builder."""

from __future__ import annotations

import numpy as np

from .column_mask import ColumnMask


def column_mask(*channels: np.ndarray, causal: bool, seqlen: int) -> ColumnMask:
    """A square mask with one head from its channels, each int [B or 1, S or 1]."""
    channels = np.broadcast_arrays(*channels, np.empty((1, seqlen)))[:-1]
    values = np.stack(channels, axis=-1)[:, None]
    return ColumnMask(np.ascontiguousarray(values, dtype=np.int32), causal, seqlen)


def keys(seqlen: int) -> np.ndarray:
    """int64 [1, S]: the position of each key."""
    return np.arange(seqlen, dtype=np.int64)[None]
