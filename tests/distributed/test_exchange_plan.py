"""The plan of a rank: its calls together show the mask, each pair once, with the keys that were sent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask import reference
from paddle_flashmask.distributed.columns import sequence_columns
from paddle_flashmask.distributed.plan import ALIGNMENT, Plan, make_plan
from paddle_flashmask.distributed.rows import check_rows, row_numbers

SEQLEN = 40


@st.composite
def shares(draw: st.DrawFn) -> tuple:
    """Rows of one to four ranks, cut anywhere."""
    ranks = draw(st.integers(1, 4))
    cuts = sorted(draw(st.lists(st.integers(0, SEQLEN), max_size=8)))
    rows = [[] for _ in range(ranks)]
    for begin, end in zip([0, *cuts], [*cuts, SEQLEN], strict=True):
        rows[draw(st.integers(0, ranks - 1))].append((begin, end))
    return check_rows(rows, ranks)


@st.composite
def masks(draw: st.DrawFn) -> tuple[np.ndarray | None, bool, tuple[int, int]]:
    """Any startend_row_indices [1, 2, N, n], with values outside [0, N] too, causal and window."""
    causal = draw(st.booleans())
    values = draw(st.sampled_from([None, 1, 2] if causal else [None, 2, 4]))
    window = draw(st.tuples(st.integers(-1, SEQLEN), st.integers(-1, SEQLEN)))
    if values is None:
        return None, causal, window
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(-3, SEQLEN + 4, (1, 2, SEQLEN, values), dtype=np.int32), causal, window


def shown(plan: Plan, rows: tuple) -> np.ndarray:
    """How often the calls show each pair of a row of the rank and a key of the sequence."""
    times = np.zeros((2, len(row_numbers(rows[plan.rank])), SEQLEN), dtype=np.int64)
    for owner, piece in enumerate(plan.received):
        keys = row_numbers(rows[owner])[row_numbers(piece.ranges)]
        for call in piece.calls:
            count, own = call.rows[1] - call.rows[0], slice(*call.rows)
            seen = reference.visible(
                call.startend_row_indices, False, (-1, -1), None, count, call.keys[1] - call.keys[0]
            )[0]
            times[:, own, keys[slice(*call.keys)]] += seen
    return times


@given(masks(), shares(), st.booleans())
def test_calls_show_every_visible_pair_once(mask: tuple, rows: tuple, in_blocks: bool) -> None:
    if in_blocks:  # as with dropout, in blocks of one row instead of 16
        rows = tuple(tuple((b, e) for b, e in ranges) for ranges in rows)
    values, causal, window = mask
    dense = np.broadcast_to(reference.visible(values, causal, window, None, SEQLEN, SEQLEN)[0], (2, SEQLEN, SEQLEN))
    columns = sequence_columns(values, causal, window, SEQLEN)
    plans = [make_plan(columns, rows, rank, in_blocks) for rank in range(len(rows))]
    for plan in plans:
        own = row_numbers(rows[plan.rank])
        np.testing.assert_array_equal(shown(plan, rows), dense[:, own])
        for owner, piece in enumerate(plan.received):
            if owner != plan.rank:
                assert plans[owner].sent[plan.rank].ranges == piece.ranges


def test_calls_in_blocks_have_the_places_of_the_sequence() -> None:
    rows = check_rows([[(0, 16), (32, 40)], [(16, 32)]], 2)
    plan = make_plan(sequence_columns(None, True, (-1, -1), SEQLEN), rows, 0, in_blocks=True)
    places = [(call.rows, call.dropout_row, call.dropout_key) for piece in plan.received for call in piece.calls]
    assert places == [((0, 16), 0, 0), ((16, 24), 32, 0), ((16, 24), 32, 32), ((16, 24), 32, 16)]


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_long_gap_is_not_sent(in_blocks: bool) -> None:
    """The rows of rank 1 see the first 20 keys and keys 500 to 519 of rank 0."""
    values = np.zeros((1, 1, 1024, 2), np.int32)
    values[:, :, [*range(20), *range(500, 520)], 0] = 1024
    plan = make_plan(
        sequence_columns(values, False, (-1, -1), 1024), check_rows([[(0, 600)], [(600, 1024)]], 2), 1, in_blocks
    )
    assert plan.received[0].ranges == ((0, 20), (500 // ALIGNMENT * ALIGNMENT, 520))
    assert plan.received[1].ranges == ()


def test_keys_whose_hole_covers_the_rows_of_a_rank_are_not_sent() -> None:
    """Keys 200 to 599 are hidden from rows 600 to 799, which are those of rank 1, and seen before and after them."""
    values = np.tile(np.array([1024, 1024], np.int32), (1, 1, 1024, 1))
    values[:, :, 200:600] = 600, 800
    rows = check_rows([[(0, 600), (800, 1024)], [(600, 800)]], 2)
    plans = [make_plan(sequence_columns(values, True, (-1, -1), 1024), rows, rank) for rank in range(2)]
    assert plans[0].sent[1].ranges == plans[1].received[0].ranges == ((0, 200),)


def test_a_hole_at_an_end_of_the_rows_is_no_hole() -> None:
    """Of the rows 10 to 29, the first key is hidden from 10 to 14, the second from 25 to 29."""
    values = np.full((1, 1, SEQLEN, 2), 0, np.int32)
    values[:, :, 0], values[:, :, 1] = (5, 15), (25, 35)
    rows = check_rows([[(10, 30)], [(0, 10), (30, 40)]], 2)
    plan = make_plan(sequence_columns(values, True, (-1, -1), SEQLEN), rows, 0)
    (call,) = plan.received[1].calls
    assert call.startend_row_indices[0, 0, :2].tolist() == [[20, 5], [15, 0]]


def test_a_mask_needs_layers_only_for_windows_with_holes() -> None:
    values = np.tile(np.array([10, 20, 25, 30], np.int32), (1, 1, SEQLEN, 1))
    rows = check_rows([[(0, SEQLEN)]], 1)
    for window, calls in (((-1, -1), 1), ((-1, 5), 2), ((35, 38), 3)):
        plan = make_plan(sequence_columns(values, False, window, SEQLEN), rows, 0)
        assert len(plan.received[0].calls) == calls, window
