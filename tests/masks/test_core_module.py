"""paddle_flashmask._core: packing, dropout, normal form, and checks of arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.specification import dropout_keep
from test_column_mask import column_masks, dense_of

from paddle_flashmask import _core
from paddle_flashmask.masks import ColumnMask


@st.composite
def packing_problems(draw: st.DrawFn) -> tuple[list[int], int]:
    capacity = draw(st.integers(1, 30))
    return draw(st.lists(st.integers(0, capacity), max_size=40)), capacity


def pack_in_order(lengths: list[int], capacity: int) -> list[int]:
    bins: list[int] = []
    bin_now, filled = 0, 0
    for length in lengths:
        if filled + length > capacity:
            bin_now, filled = bin_now + 1, 0
        filled += length
        bins.append(bin_now)
    return bins


def pack_first_fit_decreasing(lengths: list[int], capacity: int) -> list[int]:
    bins = [-1] * len(lengths)
    filled: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fits = [b for b, used in enumerate(filled) if used + lengths[item] <= capacity]
        if not fits:
            filled.append(0)
            fits = [len(filled) - 1]
        bins[item] = fits[0]
        filled[fits[0]] += lengths[item]
    return bins


@pytest.mark.parametrize("pack", [pack_in_order, pack_first_fit_decreasing])
@given(problem=packing_problems())
def test_packing(pack, problem: tuple[list[int], int]) -> None:
    lengths, capacity = problem
    bins = getattr(_core, pack.__name__)(np.asarray(lengths, dtype=np.int64), capacity)
    assert bins.dtype == np.int64
    assert bins.tolist() == pack(lengths, capacity)


@pytest.mark.parametrize("pack", [_core.pack_in_order, _core.pack_first_fit_decreasing])
@pytest.mark.parametrize(
    ("lengths", "capacity", "message"),
    [
        (np.array([3, 11]), 10, r"lengths\[1\] must lie in \[0, 10\], got 11"),
        (np.array([-1]), 10, r"lengths\[0\] must lie in \[0, 10\], got -1"),
        (np.array([3.0]), 10, "lengths must be int64, got float64"),
        (np.array([[3]]), 10, r"lengths must have 1 dimensions, got shape \(1, 1\)"),
        (np.array([0]), 0, "capacity must be at least 1, got 0"),
    ],
)
def test_packing_checks(pack, lengths: np.ndarray, capacity: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(lengths, capacity)


@pytest.mark.parametrize(("seed", "offset", "p", "head"), [(7, 3, 0.1, 0), (2**63 + 5, 2**40, 0.5, 11), (1, 0, 0.0, 2)])
def test_dropout_keep_is_the_specification(seed: int, offset: int, p: float, head: int) -> None:
    keep = _core.dropout_keep(seed, offset, p, head, 37, 53)
    np.testing.assert_array_equal(keep, dropout_keep(p, seed, offset, 1, head + 1, 37, 53)[0, head])


def test_dropout_keep_checks() -> None:
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\)"):
        _core.dropout_keep(0, 0, 1.0, 0, 4, 4)
    with pytest.raises(ValueError, match="seqlen_q must lie"):
        _core.dropout_keep(0, 0, 0.5, 0, -4, 4)


@given(column_masks())
def test_normal_form_is_normal(mask: ColumnMask) -> None:
    """One visible range, and holes strictly inside it, ascending, disjoint and apart; absent ranges are (Sq, 0)."""
    dense = dense_of(mask)
    columns = mask.columns()
    for b, h, key in np.ndindex(columns.shape[:3]):
        ranges = columns[b, h, key].reshape(3, 2).tolist()
        rows = np.flatnonzero(dense[b, h, :, key])
        present = [r for r in ranges if r != [mask.seqlen_q, 0]]
        if len(rows) == 0:
            assert present == []
            continue
        assert present[0] == ranges[0] == [rows[0], rows[-1] + 1]
        shown = set(range(*ranges[0]))
        last = ranges[0][0]
        for begin, end in present[1:]:
            assert last < begin < end < ranges[0][1]
            last = end
            shown -= set(range(begin, end))
        assert shown == set(rows.tolist())


def test_normal_form_with_a_window() -> None:
    none = np.empty((1, 1, 6, 0), dtype=np.int32)
    visible = _core.to_dense(_core.normal_form(none, False, 4, window_left=1, window_right=0), 4)[0, 0]
    expected = [[q + 2 - 1 <= k <= q + 2 for k in range(6)] for q in range(4)]
    np.testing.assert_array_equal(visible, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _core.normal_form(np.zeros((1, 1, 4, 1)), True, 4), "must be int32, got float64"),
        (lambda: _core.normal_form(np.zeros((4, 1), np.int32), True, 4), r"4 dimensions, got shape \(4, 1\)"),
        (lambda: _core.normal_form(np.zeros((1, 1, 4, 4), np.int32), True, 4), "last dimension of 1 or 2 with causal"),
        (lambda: _core.normal_form(np.zeros((1, 1, 4, 1), np.int32), True, -1), r"seqlen_q must lie in \[0, 2\^31\)"),
        (lambda: _core.to_dense(np.zeros((1, 1, 4, 5), np.int32), 4), r"\[B, Hm, Sk, 6\], got \(1, 1, 4, 5\)"),
        (lambda: _core.columns_from_dense(np.zeros((1, 1, 4, 4))), "dense must be bool, got float64"),
        (
            lambda: _core.intersect(np.zeros((1, 1, 4, 6), np.int32), np.zeros((1, 1, 5, 6), np.int32), 4),
            "same shape",
        ),
        (lambda: _core.statistics(np.zeros((1, 1, 4, 6), np.int32), 4, 0, 4), "tile_q must be at least 1, got 0"),
    ],
)
def test_checks(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
