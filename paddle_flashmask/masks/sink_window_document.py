from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, Padding, document_lists, integer, lay_out
from .column_mask import ColumnMask


def sink_window_document(
    documents: Documents, sink: int, window: int, seqlen: int | None = None, *, padding: Padding = "hidden"
) -> ColumnMask:
    """Packed documents with a sliding window and attention sinks: a token sees the first tokens of its document and
    the last ones up to itself (StreamingLLM, arXiv 2309.17453).

    Attention is causal, and documents are blind to each other. ``sink=0`` is a window in packed documents.

    Args:
        documents: document lengths in order, or one such list per batch row.
        sink: number of leading tokens of each document that all its later tokens see.
        window: keys that a query sees apart from those, itself included.
        seqlen: S (default: the longest row).
        padding: tokens after the last document see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: an argument that is not an integer, or not in a list.
        ValueError: a negative length or ``sink``, a ``window`` below 1, documents that do not fit into ``seqlen``, or
            another ``padding``.
    """
    rows = document_lists("documents", documents)
    sink, window = integer("sink", sink), integer("window", window, 1)
    seqlen, rest = lay_out(rows, seqlen, padding)
    bounds = [_columns.sink_window_document(row + last, sink, window) for row, last in zip(rows, rest, strict=True)]
    return padded_mask(bounds, causal=True, seqlen=seqlen)
