from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._assemble import column_mask, keys
from ._inputs import Lengths, integer, is_list, same_batch, sequence_lengths
from .column_mask import ColumnMask

Spans = Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]]


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
    rows = _rows(dropped)
    same_batch(dropped=rows, length=lengths)
    key = keys(seqlen)
    in_span = np.zeros((len(rows), seqlen), dtype=bool)
    span_end = np.full((len(rows), seqlen), seqlen, dtype=np.int64)
    for b, row in enumerate(rows):
        limit = lengths[min(b, len(lengths) - 1)]
        last = 0
        for offset, count in row:
            if offset < last:
                raise ValueError(f"dropped spans of batch row {b} must ascend without overlap, got {row}")
            last = offset + count
            if last > limit:
                raise ValueError(f"dropped span ({offset}, {count}) of batch row {b} ends after its length {limit}")
            in_span[b, offset:last] = True
            span_end[b, offset:last] = last
    if (end < seqlen).any():
        key = np.minimum(key, end)  # UTE <= LTS holds for padding keys too
        return column_mask(end, np.where(in_span, span_end, key), causal=False, seqlen=seqlen)
    return column_mask(np.where(in_span, key, seqlen), span_end, causal=True, seqlen=seqlen)


def _rows(dropped: Any) -> list[list[tuple[int, int]]]:
    expected = "dropped must be a list of (offset, length) or one such list per batch row"
    if not is_list(dropped) or not all(is_list(item) for item in dropped):
        raise TypeError(f"{expected}, got {dropped!r}")
    batched = len(dropped) > 0 and all(is_list(span) for row in dropped for span in row)
    rows = []
    for b, row in enumerate(dropped if batched else [dropped]):
        name = f"dropped[{b}]" if batched else "dropped"
        for s, span in enumerate(row):
            if not is_list(span) or len(span) != 2:
                raise ValueError(f"{expected}; {name}[{s}] is {span!r}")
        rows.append(
            [(integer(f"{name}[{s}] offset", o), integer(f"{name}[{s}] length", n)) for s, (o, n) in enumerate(row)]
        )
    return rows
