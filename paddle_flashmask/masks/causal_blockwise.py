from __future__ import annotations

import numpy as np

from ._assemble import column_mask
from ._inputs import Documents, document_lists, lay_out, total_length
from .column_mask import ColumnMask


def causal_blockwise(documents: Documents, seqlen: int | None = None) -> ColumnMask:
    """Demonstrations, then a test: each document is causal and blind to the others, but the last one sees all before
    it (arXiv 2410.01359, figure 1, mask 7; in-context learning).

    Args:
        documents: document lengths in order, the last one being the test, or one such list per batch row.
        seqlen: S (default: the longest row). ValueError if the documents hold more. Tokens after the last document
            belong to it: two intervals per key cannot also hide them, and being last they change nothing before them.

    Returns:
        Values (LTS, LTE), causal.
    """
    lengths = document_lists("documents", documents)
    seqlen = total_length([sum(row) for row in lengths], seqlen)
    test_start = np.asarray([sum(row[:-1]) for row in lengths], dtype=np.int64)[:, None]
    filled = [[*row[:-1], seqlen - sum(row[:-1])] for row in lengths]
    layout = lay_out(filled, seqlen)
    hidden = layout.end < test_start
    return column_mask(
        np.where(hidden, layout.end, seqlen), np.where(hidden, test_start, seqlen), causal=True, seqlen=seqlen
    )
