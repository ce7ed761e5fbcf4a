"""Rows of every rank: checks and positions."""

from __future__ import annotations

import numpy as np
import pytest

from paddle_flashmask.distributed.rows import check_rows, count, positions, row_numbers


def test_empty_ranges_are_dropped() -> None:
    rows = check_rows([[(0, 4), (4, 4), (9, 12)], [], [(np.int64(4), 9)]], 3)
    assert rows == (((0, 4), (9, 12)), (), ((4, 9),))
    assert [count(ranges) for ranges in rows] == [7, 0, 5]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (7, TypeError, "rows is int, expected the ranges of every rank"),
        ([[(0, 4)]], ValueError, "rows has ranges of 1 ranks, expected 2, the size of the group"),
        ([(0, 4), (4, 8)], TypeError, r"rows\[0\] has 0, expected a pair of integers"),
        ([[(0, 4.0)], []], TypeError, r"rows\[0\] has \(0, 4.0\), expected a pair of integers"),
        ([[(0, 4)], 5], TypeError, r"rows\[1\] is 5, expected pairs \(begin, end\)"),
        ([[(4, 0)], []], ValueError, r"rows\[0\] has the range \(4, 0\), expected 0 <= begin <= end"),
        ([[(4, 8), (0, 4)], []], ValueError, r"rows\[0\] has \(0, 4\) after \(4, 8\), expected ascending ranges"),
        ([[(0, 4)], [(5, 8)]], ValueError, "rows 4 to 4 are held by no rank"),
        ([[(1, 4)], [(4, 8)]], ValueError, "rows 0 to 0 are held by no rank"),
        ([[(0, 6)], [(4, 8)]], ValueError, "rows 4 to 5 are held twice"),
    ],
)
def test_other_rows_are_refused(rows, error, message: str) -> None:
    with pytest.raises(error, match=message):
        check_rows(rows, 2)


def test_positions_map_intervals_of_the_sequence_to_those_of_the_ranges() -> None:
    ranges = ((2, 5), (7, 9))
    held = row_numbers(ranges)
    assert held.tolist() == [2, 3, 4, 7, 8]
    place = positions(ranges, 10)
    for begin in range(11):
        for end in range(begin, 11):
            inside = np.flatnonzero((held >= begin) & (held < end))
            assert place[end] - place[begin] == len(inside)
            assert not len(inside) or inside[0] == place[begin]
