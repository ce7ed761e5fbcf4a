from __future__ import annotations

from ._assemble import column_mask
from ._inputs import Documents, Padding, document_lists, lay_out
from .column_mask import ColumnMask


def causal_document(documents: Documents, seqlen: int | None = None, *, padding: Padding = "hidden") -> ColumnMask:
    """Packed documents, each causal and blind to the others (arXiv 2410.01359, figure 1, mask 3).

    Args:
        documents: document lengths in order, or one such list per batch row.
        seqlen: S (default: the longest row). ValueError if the documents hold more.
        padding: tokens after the last document see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS), causal.
    """
    layout = lay_out(document_lists("documents", documents), seqlen, padding)
    return column_mask(layout.end, causal=True, seqlen=layout.seqlen)
