from __future__ import annotations

import numpy as np

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, document_lists, integer, total_length
from .column_mask import ColumnMask


def block_diffusion(documents: Documents, block: int, seqlen: int | None = None) -> ColumnMask:
    """Training of block diffusion models on noised and clean blocks of a document at once: a noised block sees itself
    and the clean blocks before it; a clean block sees itself and the clean blocks before it (arXiv 2503.09573).

    The copies are interleaved: first noised block, first clean block, second noised block, and so on, which takes two
    values per key and packs documents. With all noised blocks before all clean ones, packed documents would need a
    third interval. ``block_diffusion_order`` puts tokens into this order.

    Args:
        documents: lengths of the documents, of one copy, in order; or one such list per batch row.
        block: tokens of a block. The last block of a document may be shorter.
        seqlen: S, at least twice the length of all documents (default: twice that of the longest row). Rows after
            them see nothing and no token sees them.

    Returns:
        Values (LTS, UTE), not causal.

    Raises:
        TypeError: an argument that is not an integer, or not in a list.
        ValueError: a negative length, a ``block`` below 1, or documents that do not fit into ``seqlen`` twice.
    """
    rows, block = document_lists("documents", documents), integer("block", block, 1)
    seqlen = total_length([2 * sum(row) for row in rows], seqlen, "both copies of the documents")
    return padded_mask([_columns.block_diffusion(row, block) for row in rows], causal=False, seqlen=seqlen)


def block_diffusion_order(documents: Documents, block: int) -> np.ndarray:
    """Order of rows in ``block_diffusion``: ``np.concatenate([noised, clean])[order]`` interleaves the two copies.

    Args:
        documents: lengths of the documents of one sequence, T tokens in all.
        block: tokens of a block.

    Returns:
        int64 [2 * T]: i for the noised copy of token i, T + i for the clean copy.

    Raises:
        TypeError, ValueError: as for ``block_diffusion``.
    """
    (row,), block = document_lists("documents", [documents]), integer("block", block, 1)
    pieces = _columns.block_diffusion_pieces(row, block).astype(np.int64)
    starts = np.cumsum(pieces) - pieces
    # The copies of the blocks before take twice their tokens.
    first_token = np.repeat(starts[::2] // 2, 2)
    source = first_token + np.where(np.arange(len(pieces)) % 2 == 0, 0, sum(row))
    return np.repeat(source - starts, pieces) + np.arange(pieces.sum())
