from __future__ import annotations

import numpy as np

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, document_lists, integer, total_length
from .column_mask import ColumnMask


def draft_training(documents: Documents, step: int, seqlen: int | None = None) -> ColumnMask:
    """Training-time test of draft models: at step s a query sees the keys of step 0 up to its own place, and its own
    place in the keys of steps 1 to s (EAGLE-3, arXiv 2503.01840).

    The keys of all steps lie end to end, S of each. Documents are blind to each other.

    Args:
        documents: document lengths in order, or one such list per batch row.
        step: the draft step s, from 0.
        seqlen: S (default: the longest row). Tokens after the last document see nothing and no token sees them.

    Returns:
        Values (LTS, UTE), not causal, with Sq = S and Sk = (s + 1) * S.

    Raises:
        TypeError: an argument that is not an integer, or not in a list.
        ValueError: a negative length or ``step``, or documents that do not fit into ``seqlen``.
    """
    rows, step = document_lists("documents", documents), integer("step", step)
    seqlen = total_length([sum(row) for row in rows], seqlen)
    own = [np.arange(sum(row), dtype=np.int32) for row in rows]
    ends = [_columns.causal_document(row)[0] for row in rows]
    first = padded_mask(list(zip(ends, own, strict=True)), causal=False, seqlen=seqlen)
    later = padded_mask([(key + 1, key) for key in own], causal=False, seqlen=seqlen)
    values = [first.startend_row_indices, *[later.startend_row_indices] * step]
    return ColumnMask(np.concatenate(values, axis=2), False, seqlen)
