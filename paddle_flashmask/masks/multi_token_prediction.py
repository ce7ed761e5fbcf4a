from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, document_lists, integer, total_length
from .column_mask import ColumnMask


def multi_token_prediction(
    documents: Documents, depth: int, window: int | None = None, seqlen: int | None = None
) -> ColumnMask:
    """Packed documents in the module of depth k of multi-token prediction: row i combines the state of token i with
    the embedding of token i + k (DeepSeek-V3, arXiv 2412.19437, section 2.2).

    The last k rows of a document would take tokens of the next one. They see nothing and no row sees them, so each
    document is causal in its other rows and blind to its neighbours, with a window where the model has one. Depth 0 is
    the model itself.

    Args:
        documents: document lengths in order, or one such list per batch row.
        depth: the depth k.
        window: keys that a query sees, itself included (default: the whole document).
        seqlen: S (default: the longest row). Tokens after the last document see nothing and no token sees them.

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: an argument that is not an integer, or not in a list.
        ValueError: a negative length or ``depth``, a ``window`` below 1, or documents that do not fit into ``seqlen``.
    """
    rows, depth = document_lists("documents", documents), integer("depth", depth)
    seqlen = total_length([sum(row) for row in rows], seqlen)
    window = seqlen if window is None else integer("window", window, 1)
    bounds = [_columns.multi_token_prediction(row, depth, window) for row in rows]
    return padded_mask(bounds, causal=True, seqlen=seqlen)
