from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, Padding, document_lists, lay_out
from .column_mask import ColumnMask


def document(documents: Documents, seqlen: int | None = None, *, padding: Padding = "hidden") -> ColumnMask:
    """Packed encoders, and images of different sizes (NaViT): every token sees the whole of its own document
    (arXiv 2410.01359, figure 1, mask 4).

    Rows are hidden up to the start of the key's own document. (The generator published with the paper adds up the
    lengths one document too far, so its masks differ wherever two neighbouring documents differ in length.)

    Args:
        documents: document lengths in order, or one such list per batch row.
        seqlen: S (default: the longest row).
        padding: tokens after the last document see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS, UTE), not causal.

    Raises:
        TypeError: lengths that are not integers, or not in a list.
        ValueError: a negative length, documents that do not fit into ``seqlen``, or another ``padding``.
    """
    rows = document_lists("documents", documents)
    seqlen, rest = lay_out(rows, seqlen, padding)
    bounds = [_columns.document(row + last) for row, last in zip(rows, rest, strict=True)]
    return padded_mask(bounds, causal=False, seqlen=seqlen)
