"""Packs of supervised samples: no row is lost or changed without being counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask.packing import ORDERS, pack_sft, stream_sft

ROWS = st.lists(st.integers(1, 20), max_size=40)


def rows_of(lengths: list[int]) -> list[dict]:
    """Rows whose token values identify the row."""
    return [
        {"input_ids": [1000 * i + t for t in range(n)], "labels": [1000 * i + t + 1 for t in range(n)]}
        for i, n in enumerate(lengths)
    ]


def documents(packs) -> list[tuple[list[int], list[int], list[int]]]:
    found = []
    for pack in packs:
        ends = np.cumsum(pack.document_lengths)
        for start, end in zip(ends - pack.document_lengths, ends, strict=True):
            found.append(tuple(a[start:end].tolist() for a in (pack.input_ids, pack.labels, pack.position_ids)))
    return found


@pytest.mark.parametrize("order", ORDERS)
@given(lengths=ROWS, seed=st.none() | st.integers(0, 9))
def test_packs_hold_the_rows_unchanged(order, lengths, seed):
    rows = rows_of(lengths)
    packed = pack_sft(rows, 20, order=order, seed=seed)
    expected = [(row["input_ids"], row["labels"], list(range(len(row["input_ids"])))) for row in rows]
    assert sorted(documents(packed)) == sorted(expected)
    report = packed.report
    assert (report.rows, report.packed_rows, report.packs) == (len(rows), len(rows), len(packed))
    assert report.tokens == sum(lengths)
    assert report.efficiency == (sum(lengths) / (20 * len(packed)) if rows else 0)
    assert report.visible_pairs == sum(n * (n + 1) // 2 for n in lengths)
    assert all(len(pack) <= 20 for pack in packed)


@given(lengths=st.lists(st.integers(1, 30), max_size=30), rule=st.sampled_from(["drop", "truncate"]))
def test_too_long_rows_are_counted(lengths, rule):
    packed = pack_sft(rows_of(lengths), 12, too_long=rule)
    long = [n for n in lengths if n > 12]
    report = packed.report
    assert report.rows == len(lengths)
    if rule == "drop":
        assert (report.dropped_rows, report.truncated_rows, report.truncated_tokens) == (len(long), 0, 0)
        assert report.tokens == sum(lengths) - sum(long)
    else:
        assert (report.dropped_rows, report.truncated_rows) == (0, len(long))
        assert report.truncated_tokens == sum(n - 12 for n in long)
        assert report.tokens + report.truncated_tokens == sum(lengths)
    kept = [list(range(1000 * i, 1000 * i + min(n, 12))) for i, n in enumerate(lengths) if n <= 12 or rule != "drop"]
    assert sorted(ids for ids, _, _ in documents(packed)) == kept


def test_too_long_rows_can_be_an_error():
    with pytest.raises(ValueError, match="row 1 has 5 tokens, more than max_length = 4"):
        pack_sft(rows_of([2, 5]), 4, too_long="error")


def test_the_report_counts_lost_tokens():
    assert "1 row cut by 3 tokens in all" in str(pack_sft(rows_of([3, 9]), 6, too_long="truncate").report)
    assert "1 row dropped, longer than 6" in str(pack_sft(rows_of([3, 9]), 6).report)


@given(lengths=ROWS, seed=st.integers(0, 9))
def test_a_seed_decides_the_packs(lengths, seed):
    first, again = (pack_sft(rows_of(lengths), 20, order="sequential", seed=seed) for _ in range(2))
    assert documents(first) == documents(again)


def test_seeds_differ():
    rows = rows_of([5] * 40)
    plain, one, two = (pack_sft(rows, 20, seed=seed) for seed in (None, 1, 2))
    assert documents(plain) != documents(one) != documents(two)


@pytest.mark.parametrize("order", ORDERS)
@given(lengths=ROWS, buffer_rows=st.integers(1, 12))
def test_a_stream_packs_each_buffer_like_a_map(order, lengths, buffer_rows):
    rows = rows_of(lengths)
    stream = stream_sft(iter(rows), 20, order=order, buffer_rows=buffer_rows)
    streamed = documents(stream)
    expected = []
    for start in range(0, len(rows), buffer_rows):
        expected += documents(pack_sft(rows[start : start + buffer_rows], 20, order=order))
    assert streamed == expected
    assert (stream.report.rows, stream.report.tokens) == (len(rows), sum(lengths))


def test_a_stream_repeats_itself_and_reads_no_further_than_its_buffer():
    stream = stream_sft(rows_of([7] * 11), 20, buffer_rows=4, seed=3)
    assert documents(stream) == documents(stream)
    assert stream.report.rows == 11

    def endless():
        while True:
            yield {"input_ids": [1, 2], "labels": [2, 3]}

    assert len(next(iter(stream_sft(endless(), 8, buffer_rows=4)))) == 8


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [1]}, "row 0 has no 'labels'; it has 'input_ids'"),
        ({"input_ids": [], "labels": []}, "row 0 has no tokens"),
        ({"input_ids": [1, 2], "labels": [1]}, r"equally long; got shapes \[2\] and \[1\]"),
        ({"input_ids": [[1]], "labels": [[1]]}, "one-dimensional"),
    ],
)
def test_errors_of_rows(row, message):
    with pytest.raises(ValueError, match=message):
        pack_sft([row], 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "x"}, "order must be one of"),
        ({"too_long": "x"}, "too_long must be one of drop, truncate, error; got 'x'"),
    ],
)
def test_errors_of_options_come_before_any_row_is_read(options, message):
    for pack in (pack_sft, stream_sft):
        with pytest.raises(ValueError, match=message):
            pack(iter(()), 4, **options)
    with pytest.raises(ValueError, match="buffer_rows must be at least 1; got 0"):
        stream_sft([], 4, buffer_rows=0)
