from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, Padding, document_lists, integer, lay_out
from .column_mask import ColumnMask


def chunked_document(
    documents: Documents, chunk: int, seqlen: int | None = None, *, padding: Padding = "hidden"
) -> ColumnMask:
    """Packed documents with chunked attention: each document is cut into chunks that are causal and blind to each
    other (Llama 4, attention_chunk_size).

    Chunks are counted from the start of each document, as in training without packing.

    Args:
        documents: document lengths in order, or one such list per batch row.
        chunk: tokens of a chunk. The last chunk of a document may be shorter.
        seqlen: S (default: the longest row).
        padding: tokens after the last document see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: an argument that is not an integer, or not in a list.
        ValueError: a negative length, a ``chunk`` below 1, documents that do not fit into ``seqlen``, or another
            ``padding``.
    """
    rows, chunk = document_lists("documents", documents), integer("chunk", chunk, 1)
    seqlen, rest = lay_out(rows, seqlen, padding)
    bounds = [_columns.chunked_document(row + last, chunk) for row, last in zip(rows, rest, strict=True)]
    return padded_mask(bounds, causal=True, seqlen=seqlen)
