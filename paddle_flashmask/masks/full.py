from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Lengths, integer, sequence_lengths
from .column_mask import ColumnMask


def full(seqlen: int, *, length: Lengths | None = None) -> ColumnMask:
    """Encoders: every token sees every token (arXiv 1706.03762, section 3.2.3).

    Args:
        seqlen: S.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding tokens see nothing
            and no token sees them.

    Returns:
        Values (LTS, UTE), not causal. Without padding, ``startend_row_indices=None`` means the same.

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a negative integer, or a length greater than ``seqlen``.
    """
    seqlen = integer("seqlen", seqlen)
    lengths = sequence_lengths(seqlen, length)
    return padded_mask([_columns.document([n]) for n in lengths], causal=False, seqlen=seqlen)
