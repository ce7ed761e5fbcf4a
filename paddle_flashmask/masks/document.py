from __future__ import annotations

from ._assemble import column_mask
from ._inputs import Documents, Padding, document_lists, lay_out
from .column_mask import ColumnMask


def document(documents: Documents, seqlen: int | None = None, *, padding: Padding = "hidden") -> ColumnMask:
    """Packed documents, every token seeing the whole of its own (arXiv 2410.01359, figure 1, mask 4).

    Rows are hidden up to the start of the key's own document. (The generator published with the paper adds up the
    lengths one document too far; its masks differ wherever neighbours differ in length.)

    Args:
        documents: document lengths in order, or one such list per batch row.
        seqlen: S (default: the longest row). ValueError if the documents hold more.
        padding: tokens after the last document see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS, UTE), not causal.
    """
    layout = lay_out(document_lists("documents", documents), seqlen, padding)
    return column_mask(layout.end, layout.start, causal=False, seqlen=layout.seqlen)
