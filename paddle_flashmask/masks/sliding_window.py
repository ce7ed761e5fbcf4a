from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Lengths, integer, sequence_lengths
from .column_mask import ColumnMask


def sliding_window(seqlen: int, window: int, *, length: Lengths | None = None) -> ColumnMask:
    """Local attention: every token sees itself and the ``window - 1`` tokens before it (arXiv 2410.01359, figure 1,
    mask 2).

    Args:
        seqlen: S.
        window: number of keys that a query sees, itself included; at least 1.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding tokens see nothing
            and no token sees them.

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a negative integer, a window of 0, or a length greater than ``seqlen``.
    """
    seqlen, window = integer("seqlen", seqlen), integer("window", window, 1)
    lengths = sequence_lengths(seqlen, length)
    return padded_mask([_columns.sliding_window_document([n], window) for n in lengths], causal=True, seqlen=seqlen)
