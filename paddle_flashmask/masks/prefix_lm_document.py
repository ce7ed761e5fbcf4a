from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, Padding, document_lists, lay_out, same_batch
from .column_mask import ColumnMask


def prefix_lm_document(
    documents: Documents, prefixes: Documents, seqlen: int | None = None, *, padding: Padding = "hidden"
) -> ColumnMask:
    """Packed prefix language models: each document has a prefix that all its tokens see, and is causal after it
    (arXiv 2410.01359, figure 1, mask 8).

    Args:
        documents: document lengths in order, or one such list per batch row.
        prefixes: prefix length of each document, in lists of the same sizes; none longer than its document.
        seqlen: S (default: the longest row).
        padding: tokens after the last document see nothing ("hidden") or form one more document, causal ("document").

    Returns:
        Values (LTS, UTE), not causal.

    Raises:
        TypeError: lengths that are not integers, or not in a list.
        ValueError: a negative length, documents that do not fit into ``seqlen``, a prefix longer than its document,
            numbers of documents and prefixes that differ, or another ``padding``.
    """
    rows, prefix_rows = document_lists("documents", documents), document_lists("prefixes", prefixes)
    _check_prefixes(rows, prefix_rows)
    seqlen, rest = lay_out(rows, seqlen, padding)
    bounds = [
        _columns.prefix_lm_document(row + last, prefix_row + [0] * len(last))
        for row, prefix_row, last in zip(rows, prefix_rows, rest, strict=True)
    ]
    return padded_mask(bounds, causal=False, seqlen=seqlen)


def _check_prefixes(rows: list[list[int]], prefix_rows: list[list[int]]) -> None:
    same_batch(documents=rows, prefixes=prefix_rows)
    if len(prefix_rows) != len(rows):
        raise ValueError(f"documents has {len(rows)} batch rows, prefixes has {len(prefix_rows)}")
    for b, (row, prefix_row) in enumerate(zip(rows, prefix_rows, strict=True)):
        if len(row) != len(prefix_row):
            raise ValueError(f"batch row {b} has {len(row)} documents but {len(prefix_row)} prefixes")
        for d, (length, prefix) in enumerate(zip(row, prefix_row, strict=True)):
            if prefix > length:
                raise ValueError(
                    f"prefix {prefix} of document {d} in batch row {b} is longer than the document, {length}"
                )
