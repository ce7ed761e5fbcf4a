"""Assignment of rows to packs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddle_flashmask import _core

ORDERS = ("sequential", "first_fit_decreasing", "single")


def plan_packs(lengths: Sequence[int], max_length: int, order: str = "first_fit_decreasing") -> list[list[int]]:
    """Assign every row to one pack of at most `max_length` tokens.

    Args:
        lengths: tokens per row, each in 1..max_length.
        max_length: most tokens of a pack.
        order: "sequential" closes a pack at the first row that does not fit, so rows keep their order;
            "first_fit_decreasing" puts the longest remaining row into the first pack with room, which needs at most
            11/9 of the fewest possible packs plus 6/9 (Dosa 2007); "single" gives every row its own pack.

    Returns:
        The row numbers of each pack.

    Raises:
        ValueError: an unknown order, or a length outside 1..max_length.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1; got {max_length}")
    row_lengths = np.asarray(lengths, dtype=np.int64)
    if row_lengths.ndim != 1:
        raise ValueError(f"lengths must be one-dimensional; got shape {list(row_lengths.shape)}")
    wrong = np.flatnonzero((row_lengths < 1) | (row_lengths > max_length))
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(f"row {row} has {int(row_lengths[row])} tokens; expected 1 to max_length = {max_length}")
    if order == "single":
        return [[row] for row in range(len(row_lengths))]
    pack = _core.pack_in_order if order == "sequential" else _core.pack_first_fit_decreasing
    bins = pack(row_lengths, max_length)
    rows_by_bin = np.argsort(bins, kind="stable")
    first_of_bin = np.flatnonzero(np.diff(bins[rows_by_bin], prepend=-1))
    return [members.tolist() for members in np.split(rows_by_bin, first_of_bin)[1:]]
