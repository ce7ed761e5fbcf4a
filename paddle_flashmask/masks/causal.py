from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Lengths, integer, sequence_lengths
from .column_mask import ColumnMask


def causal(seqlen: int, *, length: Lengths | None = None) -> ColumnMask:
    """Language modelling: every token sees itself and the tokens before it (arXiv 2410.01359, figure 1, mask 1).

    Args:
        seqlen: S.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding tokens see nothing
            and no token sees them.

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a negative integer, or a length greater than ``seqlen``.
    """
    seqlen = integer("seqlen", seqlen)
    lengths = sequence_lengths(seqlen, length)
    return padded_mask([_columns.causal_document([n]) for n in lengths], causal=True, seqlen=seqlen)
