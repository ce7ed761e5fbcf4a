from __future__ import annotations

import numpy as np

from ._assemble import column_mask, keys
from ._inputs import Lengths, integer, sequence_lengths
from .column_mask import ColumnMask


def full(seqlen: int, *, length: Lengths | None = None) -> ColumnMask:
    """Every token sees every token.

    Args:
        seqlen: S.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding rows see nothing
            and nobody sees padding keys.

    Returns:
        Values (LTS, UTE), not causal. Without padding ``startend_row_indices=None`` says the same.
    """
    seqlen = integer("seqlen", seqlen)
    end = sequence_lengths(seqlen, length)
    return column_mask(end, np.where(keys(seqlen) < end, 0, end), causal=False, seqlen=seqlen)
