from __future__ import annotations

import numpy as np

from ._assemble import column_mask, keys
from ._inputs import Lengths, integer, sequence_lengths
from .column_mask import ColumnMask


def sliding_window(seqlen: int, window: int, *, length: Lengths | None = None) -> ColumnMask:
    """Every token sees itself and the ``window - 1`` tokens before it (arXiv 2410.01359, figure 1, mask 2).

    Args:
        seqlen: S.
        window: number of keys a query sees, itself included; at least 1.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding rows see nothing.

    Returns:
        Values (LTS), causal.
    """
    seqlen, window = integer("seqlen", seqlen), integer("window", window, 1)
    end = sequence_lengths(seqlen, length)
    return column_mask(np.minimum(keys(seqlen) + window, end), causal=True, seqlen=seqlen)
