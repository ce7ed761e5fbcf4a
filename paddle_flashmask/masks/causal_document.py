from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, Padding, document_lists, lay_out
from .column_mask import ColumnMask


def causal_document(documents: Documents, seqlen: int | None = None, *, padding: Padding = "hidden") -> ColumnMask:
    """Packed pre-training and fine-tuning: documents share a sequence, each causal and blind to the others
    (arXiv 2410.01359, figure 1, mask 3).

    Args:
        documents: document lengths in order, or one such list per batch row.
        seqlen: S (default: the longest row).
        padding: tokens after the last document see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: lengths that are not integers, or not in a list.
        ValueError: a negative length, documents that do not fit into ``seqlen``, or another ``padding``.
    """
    rows = document_lists("documents", documents)
    seqlen, rest = lay_out(rows, seqlen, padding)
    bounds = [_columns.causal_document(row + last) for row, last in zip(rows, rest, strict=True)]
    return padded_mask(bounds, causal=True, seqlen=seqlen)
