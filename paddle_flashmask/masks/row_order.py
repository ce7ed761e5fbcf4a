"""Orders of rows that make a dense mask a column mask."""

from __future__ import annotations

from typing import Any

import numpy as np


def row_order(dense: Any) -> np.ndarray | None:
    """Find an order of query rows in which every key is seen by one run of rows, if the mask allows it.

    It does where of any two keys the rows that see them are nested or disjoint: for the paths of a tree in any order
    of its tokens, and for block diffusion with all noised blocks before all clean ones. For self-attention, put the
    keys, and all else that belongs to a token, into the same order: ``dense[order][:, order]``.

    The time is that of sorting Sq rows of Sk bits.

    Args:
        dense: bool array [Sq, Sk], or [Hm, Sq, Sk] for mask heads that share the order, True where visible.

    Returns:
        int64 [Sq], the row at each place; rows that see the same keys stay in sequence. None if the rows of two keys
        overlap without being nested.

    Raises:
        TypeError: not a bool array.
        ValueError: wrong number of dimensions.
    """
    dense = np.asarray(dense)
    if dense.dtype != np.bool_:
        raise TypeError(f"dense must be a bool array (True = visible), got {dense.dtype}")
    if dense.ndim not in (2, 3):
        raise ValueError(f"dense must have shape [Sq, Sk] or [Hm, Sq, Sk], got {dense.shape}")
    rows = dense.shape[-2]
    columns = np.moveaxis(dense, -2, 0).reshape(rows, dense.size // max(rows, 1))
    if columns.size == 0:
        return np.arange(rows)
    # Sets of rows from large to small: rows that agree on all larger sets stay together, and the next set is either
    # inside such a group or apart from it. A set follows the rest of its group, as a child follows its parent.
    columns = columns[:, np.argsort(columns.sum(axis=0), kind="stable")[::-1]]
    order = np.lexsort(np.packbits(columns, axis=1).T[::-1])
    columns = columns[order]
    runs = columns[0].astype(np.int64) + (columns[1:] & ~columns[:-1]).sum(axis=0)
    return order if (runs <= 1).all() else None
