"""Ranges of rows: which rows of the sequence each rank holds, checked and located."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges of rows of one rank, ascending, none of them empty."""


def check_rows(rows: Any, ranks: int) -> tuple[Ranges, ...]:
    """Return the ranges of every rank without the empty ones.

    Raises:
        TypeError: not a sequence of sequences of pairs of integers.
        ValueError: another number of ranks than `ranks`, ranges of a rank that do not ascend, or ranges that do not
            cover every row from 0 exactly once.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise TypeError(f"rows is {type(rows).__name__}, expected the ranges of every rank: [[(begin, end), ...], ...]")
    if len(rows) != ranks:
        raise ValueError(f"rows has ranges of {len(rows)} ranks, expected {ranks}, the size of the group")
    checked = tuple(_check_ranges(ranges, rank) for rank, ranges in enumerate(rows))
    end = 0
    for first, last in sorted(pair for ranges in checked for pair in ranges):
        if first != end:
            problem = "are held twice" if first < end else "are held by no rank"
            raise ValueError(f"rows {min(first, end)} to {max(first, end) - 1} {problem}")
        end = last
    return checked


def _check_ranges(ranges: Any, rank: int) -> Ranges:
    kept = []
    if not isinstance(ranges, Sequence) or isinstance(ranges, str):
        raise TypeError(f"rows[{rank}] is {ranges!r}, expected pairs (begin, end)")
    for pair in ranges:
        is_pair = isinstance(pair, Sequence) and len(pair) == 2
        if not is_pair or not all(isinstance(row, numbers.Integral) and not isinstance(row, bool) for row in pair):
            raise TypeError(f"rows[{rank}] has {pair!r}, expected a pair of integers (begin, end)")
        begin, end = map(int, pair)
        if not 0 <= begin <= end:
            raise ValueError(f"rows[{rank}] has the range {(begin, end)}, expected 0 <= begin <= end")
        if begin == end:
            continue
        if kept and begin < kept[-1][1]:
            raise ValueError(f"rows[{rank}] has {(begin, end)} after {kept[-1]}, expected ascending ranges")
        kept.append((begin, end))
    return tuple(kept)


def count(ranges: Ranges) -> int:
    """Return the number of rows."""
    return sum(end - begin for begin, end in ranges)


def positions(ranges: Ranges, seqlen: int) -> np.ndarray:
    """Return int32 [seqlen + 1]: how many rows of the ranges lie before each row of the sequence.

    It maps an interval of rows of the sequence to the interval of those rows that the ranges hold.
    """
    held = np.zeros(seqlen + 1, dtype=np.int32)
    for begin, end in ranges:
        held[begin + 1 : end + 1] = 1
    return np.cumsum(held, dtype=np.int32)


def row_numbers(ranges: Ranges) -> np.ndarray:
    """Return int64 [count]: the rows of the ranges in their order."""
    return np.concatenate([np.empty(0, np.int64), *(np.arange(begin, end) for begin, end in ranges)])
