"""Columns of some rows: the mask of a whole sequence cut to the rows of one rank, in the operator's form.

Columns are int32 [B, Hm, keys, 6], the normal form of csrc/core/columns.h: visible begin and end, then begin and end of
two holes; an absent range is (rows, 0). Rows that a rank holds ascend, so every interval of rows of the sequence is one
interval of the rank's rows: causality, windows and holes are mapped like any other bound.
"""

from __future__ import annotations

import numpy as np

from paddle_flashmask import _core


def sequence_columns(
    startend_row_indices: np.ndarray | None, causal: bool, window: tuple[int, int], seqlen: int
) -> np.ndarray:
    """Return the columns of the whole sequence; causality and window (left, right; -1: unbounded) are part of them."""
    values = np.empty((1, 1, seqlen, 0), np.int32) if startend_row_indices is None else startend_row_indices
    return _core.normal_form(values, causal, seqlen, *window)


def columns_of_rows(columns: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the columns for the rows that `positions` (rows.positions) counts, in normal form."""
    rows = positions[-1]
    low, high, *holes = (positions[columns[..., bound]] for bound in range(6))
    (first, first_end), (second, second_end) = holes[:2], holes[2:]

    # A hole without rows is absent; the first hole is the one that exists.
    only_second = first >= first_end
    first, first_end = np.where(only_second, second, first), np.where(only_second, second_end, first_end)
    no_second = only_second | (second >= second_end)
    touching = ~no_second & (first_end == second)
    first_end = np.where(touching, second_end, first_end)
    no_second |= touching
    no_first = first >= first_end

    # A hole at an end of the visible range shortens it. A second hole at its end stays: it is one interval either way.
    leading = ~no_first & (first <= low)
    low = np.where(leading, first_end, low)
    first, first_end = np.where(leading, second, first), np.where(leading, second_end, first_end)
    no_first |= leading & no_second
    no_second |= leading
    trailing = ~no_first & no_second & (first_end >= high)
    high = np.where(trailing, first, high)
    no_first |= trailing

    unseen = low >= high
    bounds = [(low, high, unseen), (first, first_end, no_first | unseen), (second, second_end, no_second | unseen)]
    return np.stack(
        [np.where(absent, other, bound) for begin, end, absent in bounds for bound, other in ((begin, rows), (end, 0))],
        axis=-1,
    ).astype(np.int32)


def seen_keys(columns: np.ndarray) -> np.ndarray:
    """Return bool [keys]: whether any row of any batch row and mask head sees the key."""
    return (columns[..., 0] < columns[..., 1]).any(axis=(0, 1))


def seen_by(columns: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return bool [keys]: whether any of the rows that `positions` counts sees the key, without their columns."""
    low, high, first, first_end, second, second_end = (positions[columns[..., bound]] for bound in range(6))
    hidden = np.maximum(first_end - first, 0) + np.maximum(second_end - second, 0)
    return (high - low > hidden).any(axis=(0, 1))


def layers(columns: np.ndarray, rows: int) -> list[np.ndarray]:
    """Return masks without a common pair that together show what `columns` of `rows` rows show.

    Each hides at most two intervals of rows of a key, as startend_row_indices can. A key with holes and hidden ends
    needs up to three layers, one for each run of rows that see it; other masks have one layer.
    """
    found = []
    while True:
        layer, columns = _peel(columns, rows)
        found.append(layer)
        if not seen_keys(columns).any():
            return found


def _peel(columns: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one layer and the columns of the pairs that are left."""
    low, high, first, first_end, second, second_end = np.moveaxis(columns, -1, 0)
    hidden = (low > 0).astype(np.int8) + (high < rows) + (first < first_end) + (second < second_end)
    splits = (low < high) & (hidden > 2)
    layer, rest = columns.copy(), np.empty_like(columns)
    layer[splits, 1] = first[splits]
    layer[splits, 2:] = rows, 0, rows, 0
    rest[...] = rows, 0, rows, 0, rows, 0
    rest[splits, 0], rest[splits, 1] = first_end[splits], high[splits]
    rest[splits, 2], rest[splits, 3] = second[splits], second_end[splits]
    return layer, rest


def hidden_intervals(layer: np.ndarray, rows: int) -> np.ndarray:
    """Return startend_row_indices of one layer for causal=False: int32 [B, Hm, keys, 2 or 4]."""
    low, high, first, first_end, second, second_end = np.moveaxis(layer, -1, 0)
    if not ((first < first_end) | (second < second_end)).any():
        return np.ascontiguousarray(np.stack([high, low], axis=-1))
    zero, end = np.zeros_like(low), np.full_like(low, rows)
    begins = np.stack([zero, first, second, high], axis=-1)
    ends = np.stack([np.where(low < high, low, end), first_end, second_end, end], axis=-1)
    order = np.argsort(begins >= ends, axis=-1, kind="stable")[..., :2]
    begins, ends = np.take_along_axis(begins, order, -1), np.take_along_axis(ends, order, -1)
    return np.ascontiguousarray(np.stack([begins, ends], axis=-1).reshape(*low.shape, 4))
