"""Assignment of rows to packs: every row once, no pack above its capacity, and the bounds of the methods."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask.packing import ORDERS, plan_packs

LENGTHS = st.integers(1, 40).flatmap(
    lambda top: st.tuples(st.lists(st.integers(1, top), max_size=60), st.integers(top, 3 * top))
)


@pytest.mark.parametrize("order", ORDERS)
@given(case=LENGTHS)
def test_every_row_is_in_one_pack_and_none_is_too_full(order, case):
    lengths, max_length = case
    packs = plan_packs(lengths, max_length, order)
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert all(pack and sum(lengths[row] for row in pack) <= max_length for pack in packs)


@given(case=LENGTHS)
def test_sequential_keeps_the_order_and_fills_packs(case):
    lengths, max_length = case
    packs = plan_packs(lengths, max_length, "sequential")
    assert [row for pack in packs for row in pack] == list(range(len(lengths)))
    for pack, following in zip(packs, packs[1:], strict=False):
        assert sum(lengths[row] for row in pack) + lengths[following[0]] > max_length


@given(case=LENGTHS)
def test_first_fit_decreasing_is_near_the_lower_bound(case):
    lengths, max_length = case
    packs = plan_packs(lengths, max_length, "first_fit_decreasing")
    # First fit leaves at most one pack half empty, so two packs in a row always hold more than one pack's worth.
    assert len(packs) <= max(1, 2 * math.ceil(sum(lengths) / max_length)) or not lengths
    loads = [sum(lengths[row] for row in pack) for pack in packs]
    for earlier, load in enumerate(loads):
        for pack in packs[earlier + 1 :]:
            assert all(load + lengths[row] > max_length for row in pack)


def test_known_plan():
    assert plan_packs([3, 5, 2, 4, 1, 5], 6) == [[1, 4], [5], [2, 3], [0]]
    assert plan_packs([3, 5, 2, 4, 1, 5], 6, "sequential") == [[0], [1], [2, 3], [4, 5]]
    assert plan_packs([3, 5], 8, "single") == [[0], [1]]


@pytest.mark.parametrize("order", ORDERS)
def test_no_rows_need_no_packs(order):
    assert plan_packs([], 4, order) == []


@pytest.mark.parametrize(
    ("lengths", "max_length", "order", "message"),
    [
        ([1, 0], 4, "sequential", "row 1 has 0 tokens"),
        ([1, 5], 4, "first_fit_decreasing", "row 1 has 5 tokens"),
        ([1], 0, "single", "max_length must be at least 1; got 0"),
        ([1], 4, "best", "order must be one of sequential, first_fit_decreasing, single; got 'best'"),
        ([[1]], 4, "single", "one-dimensional"),
    ],
)
def test_errors(lengths, max_length, order, message):
    with pytest.raises(ValueError, match=message):
        plan_packs(lengths, max_length, order)
