from __future__ import annotations

from ._assemble import column_mask
from ._inputs import Lengths, integer, sequence_lengths
from .column_mask import ColumnMask


def causal(seqlen: int, *, length: Lengths | None = None) -> ColumnMask:
    """Every token sees itself and what came before (arXiv 2410.01359, figure 1, mask 1).

    Args:
        seqlen: S.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding rows see nothing.

    Returns:
        Values (LTS), causal.
    """
    seqlen = integer("seqlen", seqlen)
    return column_mask(sequence_lengths(seqlen, length), causal=True, seqlen=seqlen)
