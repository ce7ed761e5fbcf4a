from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, document_lists, total_length
from .column_mask import ColumnMask


def causal_blockwise(documents: Documents, seqlen: int | None = None) -> ColumnMask:
    """In-context learning: demonstrations are causal and blind to each other, and the last document sees them all
    (arXiv 2410.01359, figure 1, mask 7).

    Tokens after the last document belong to it: two intervals per key cannot also hide them, and being last they
    change nothing before them.

    Args:
        documents: document lengths in order, the last one being the test, or one such list per batch row.
        seqlen: S (default: the longest row).

    Returns:
        Values (LTS, LTE), causal.

    Raises:
        TypeError: lengths that are not integers, or not in a list.
        ValueError: a negative length, or documents that do not fit into ``seqlen``.
    """
    rows = document_lists("documents", documents)
    seqlen = total_length([sum(row) for row in rows], seqlen)
    filled = [[*row[:-1], seqlen - sum(row[:-1])] for row in rows]
    return padded_mask([_columns.causal_blockwise(row) for row in filled], causal=True, seqlen=seqlen)
