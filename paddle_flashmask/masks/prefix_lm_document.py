from __future__ import annotations

import numpy as np

from ._assemble import column_mask, keys
from ._inputs import Documents, Padding, document_lists, lay_out, same_batch
from .column_mask import ColumnMask


def prefix_lm_document(
    documents: Documents, prefixes: Documents, seqlen: int | None = None, *, padding: Padding = "hidden"
) -> ColumnMask:
    """Packed documents, each with a prefix all its tokens see, and causal after that (arXiv 2410.01359, figure 1,
    mask 8).

    Args:
        documents: document lengths in order, or one such list per batch row.
        prefixes: prefix length of each document, in lists of the same sizes; none longer than its document.
        seqlen: S (default: the longest row). ValueError if the documents hold more.
        padding: tokens after the last document see nothing ("hidden") or form one more document, causal ("document").

    Returns:
        Values (LTS, UTE), not causal.
    """
    lengths, prefix_lengths = document_lists("documents", documents), document_lists("prefixes", prefixes)
    same_batch(documents=lengths, prefixes=prefix_lengths)
    if len(prefix_lengths) != len(lengths):
        raise ValueError(f"documents has {len(lengths)} batch rows, prefixes has {len(prefix_lengths)}")
    for b, (row, prefix_row) in enumerate(zip(lengths, prefix_lengths, strict=True)):
        if len(row) != len(prefix_row):
            raise ValueError(f"batch row {b} has {len(row)} documents but {len(prefix_row)} prefixes")
        for d, (length, prefix) in enumerate(zip(row, prefix_row, strict=True)):
            if prefix > length:
                raise ValueError(
                    f"prefix {prefix} of document {d} in batch row {b} is longer than the document, {length}"
                )
    if padding == "document":
        prefix_lengths = [[*row, 0] for row in prefix_lengths]
    layout = lay_out(lengths, seqlen, padding)
    key = np.minimum(keys(layout.seqlen), layout.end)  # of hidden tokens too UTE stays <= LTS
    in_prefix = key < layout.start + layout.spread(prefix_lengths)
    return column_mask(layout.end, np.where(in_prefix, layout.start, key), causal=False, seqlen=layout.seqlen)
