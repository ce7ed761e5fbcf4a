from __future__ import annotations

import numpy as np

from ._assemble import column_mask, keys
from ._inputs import Lengths, integer, per_batch, same_batch, sequence_lengths
from .column_mask import ColumnMask


def prefix_lm_causal(seqlen: int, prefix: Lengths, *, length: Lengths | None = None) -> ColumnMask:
    """A prefix every token sees, causal after that (arXiv 2410.01359, figure 1, mask 9; as in T5 and GLM).

    Args:
        seqlen: S.
        prefix: prefix length, one number or one per batch row; at most the row's length.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding rows see nothing
            and nobody sees padding keys.

    Returns:
        Values (LTS, UTE), not causal.
    """
    seqlen = integer("seqlen", seqlen)
    end = sequence_lengths(seqlen, length)
    prefixes = np.asarray(per_batch("prefix", prefix), dtype=np.int64)[:, None]
    same_batch(prefix=list(prefixes), length=list(end))
    for row, (p, e) in enumerate(np.broadcast(prefixes, end)):
        if p > e:
            raise ValueError(f"prefix {p} of batch row {row} is longer than the sequence, {e}")
    key = np.minimum(keys(seqlen), end)  # of padding too UTE stays <= LTS
    return column_mask(end, np.where(key < prefixes, 0, key), causal=False, seqlen=seqlen)
