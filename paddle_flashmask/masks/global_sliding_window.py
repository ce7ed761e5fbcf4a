from __future__ import annotations

import numpy as np

from ._assemble import column_mask, keys
from ._inputs import Lengths, integer, sequence_lengths, window_sides
from .column_mask import ColumnMask

Window = int | tuple[int, int]


def global_sliding_window(
    seqlen: int, global_tokens: int, window: Window, *, length: Lengths | None = None
) -> ColumnMask:
    """Long documents, as in Longformer and BigBird: the first tokens see and are seen by all; the others see a window
    around themselves (arXiv 2410.01359, figure 1, mask 6).

    Args:
        seqlen: S.
        global_tokens: number of leading tokens that are global.
        window: keys on each side of a query that it sees besides itself: one number for both sides or (left, right).
        length: tokens that are not padding, one number or one per batch row (default: all). Padding tokens see nothing
            and no token sees them.

    Returns:
        Values (LTS, LTE, UTS, UTE), not causal.

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a negative integer, ``global_tokens`` or a length greater than ``seqlen``, or a window of more than
            two sides.
    """
    seqlen, global_tokens = integer("seqlen", seqlen), integer("global_tokens", global_tokens)
    if global_tokens > seqlen:
        raise ValueError(f"global_tokens {global_tokens} is greater than seqlen {seqlen}")
    left, right = window_sides(window)
    end = np.asarray(sequence_lengths(seqlen, length), dtype=np.int64)[:, None]
    key = keys(seqlen)
    is_global = key < global_tokens
    upper_end = np.where(key - right > global_tokens, key - right, 0)
    lts = np.where(is_global, seqlen, key + left + 1)
    uts = np.where(is_global, 0, global_tokens)
    is_padding = key >= end
    return column_mask(
        np.minimum(lts, end),
        np.asarray([[seqlen]]),
        np.where(is_padding, 0, uts),
        np.where(is_padding, end, upper_end),
        causal=False,
        seqlen=seqlen,
    )
