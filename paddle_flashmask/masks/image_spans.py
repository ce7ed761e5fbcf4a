from __future__ import annotations

from itertools import accumulate

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, Padding, Spans, document_lists, integer, lay_out, same_batch, span_lists
from .column_mask import ColumnMask


def image_spans(
    documents: Documents,
    spans: Spans,
    window: int | None = None,
    seqlen: int | None = None,
    *,
    padding: Padding = "hidden",
) -> ColumnMask:
    """Text with images: attention is causal within each document, and the tokens of an image also see each other
    (Gemma 3, arXiv 2503.19786).

    Documents are blind to each other. With a window, a token sees the last tokens up to itself, and all of its image,
    however long that is.

    Args:
        documents: document lengths in order, or one such list per batch row.
        spans: (offset, length) of each image, with offsets in the whole sequence, in ascending order and without
            overlap, each inside one document; or one such list per batch row.
        window: keys that a query sees, itself included (default: the whole document).
        seqlen: S (default: the longest row).
        padding: tokens after the last document see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS, UTE), not causal.

    Raises:
        TypeError: an argument that is not an integer, or not in a list.
        ValueError: a negative length, a ``window`` below 1, spans that overlap, do not ascend or are not inside one
            document, numbers of batch rows that differ, documents that do not fit into ``seqlen``, or another
            ``padding``.
    """
    rows, span_rows = document_lists("documents", documents), span_lists("spans", spans)
    same_batch(documents=rows, spans=span_rows)
    if len(span_rows) != len(rows):
        raise ValueError(f"documents has {len(rows)} batch rows, spans has {len(span_rows)}")
    for b, (row, span_row) in enumerate(zip(rows, span_rows, strict=True)):
        _check_inside(row, span_row, b)
    seqlen, rest = lay_out(rows, seqlen, padding)
    window = seqlen if window is None else integer("window", window, 1)
    bounds = [
        _columns.image_spans(row + last, span_row, window)
        for row, span_row, last in zip(rows, span_rows, rest, strict=True)
    ]
    return padded_mask(bounds, causal=False, seqlen=seqlen)


def _check_inside(lengths: list[int], spans: list[tuple[int, int]], batch_row: int) -> None:
    documents = zip(accumulate(lengths, initial=0), accumulate(lengths), strict=False)
    start, end = 0, 0
    for offset, length in spans:
        while offset + length > end and (document := next(documents, None)) is not None:
            start, end = document
        if not start <= offset <= offset + length <= end:
            raise ValueError(f"span ({offset}, {length}) of batch row {batch_row} is not inside one document")
