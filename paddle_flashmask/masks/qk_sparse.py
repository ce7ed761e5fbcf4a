from __future__ import annotations

import numpy as np

from ._assemble import column_mask, keys
from ._inputs import Lengths, Spans, integer, same_batch, sequence_lengths, span_lists
from .column_mask import ColumnMask


def qk_sparse(seqlen: int, dropped: Spans, *, length: Lengths | None = None) -> ColumnMask:
    """Causal attention in which spans of tokens do not attend within themselves (arXiv 2410.01359, figure 1, mask 10;
    queries and keys dropped as in sparse flash attention, arXiv 2306.01160).

    A token of a span sees only what lies before the span; tokens after the span see all of it.

    Args:
        seqlen: S.
        dropped: (offset, length) of each span, in ascending order and without overlap, or one such list per batch row.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding tokens see nothing
            and no token sees them.

    Returns:
        Values (LTS, LTE), causal, as in the paper. With padding (LTS, UTE), not causal: no causal form of two values
        can encode both a span and the padding.

    Raises:
        TypeError: an argument that is not an integer or not a list of spans.
        ValueError: a negative integer, spans that overlap, do not ascend or end after the row's length, a length
            greater than ``seqlen``, or numbers of batch rows that differ.
    """
    seqlen = integer("seqlen", seqlen)
    lengths = sequence_lengths(seqlen, length)
    end = np.asarray(lengths, dtype=np.int64)[:, None]
    rows = span_lists("dropped", dropped)
    same_batch(dropped=rows, length=lengths)
    key = keys(seqlen)
    in_span = np.zeros((len(rows), seqlen), dtype=bool)
    span_end = np.full((len(rows), seqlen), seqlen, dtype=np.int64)
    for b, row in enumerate(rows):
        limit = lengths[min(b, len(lengths) - 1)]
        for offset, count in row:
            last = offset + count
            if last > limit:
                raise ValueError(f"dropped span ({offset}, {count}) of batch row {b} ends after its length {limit}")
            in_span[b, offset:last] = True
            span_end[b, offset:last] = last
    if (end < seqlen).any():
        key = np.minimum(key, end)  # UTE <= LTS holds for padding keys too
        return column_mask(end, np.where(in_span, span_end, key), causal=False, seqlen=seqlen)
    return column_mask(np.where(in_span, key, seqlen), span_end, causal=True, seqlen=seqlen)
