"""Collated batches: padding that no token sees, and columns equal to the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask.masks import ColumnMask
from paddle_flashmask.packing import SFTCollator, pack_sft

BATCHES = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=5), min_size=1, max_size=3)


def packs_of(batch: list[list[int]]):
    rows = [{"input_ids": np.arange(sum(ns)) + 7, "labels": np.arange(sum(ns)) + 8} for ns in batch]
    packs = []
    for row, lengths in zip(rows, batch, strict=True):
        ends = np.cumsum(lengths)
        parts = [{k: v[e - n : e] for k, v in row.items()} for n, e in zip(lengths, ends, strict=True)]
        packs += list(pack_sft(parts, 30, order="sequential"))
    return packs


def expected_mask(lengths: list[int], size: int) -> np.ndarray:
    visible = np.zeros((size, size), dtype=bool)
    start = 0
    for n in lengths:
        visible[start : start + n, start : start + n] = np.tri(n, dtype=bool)
        start += n
    return visible


@given(batch=BATCHES, extra=st.integers(0, 5))
def test_columns_and_dense_mask_are_the_documents(batch, extra):
    packs = packs_of(batch)
    size = max(map(sum, batch)) + extra
    expected = np.stack([expected_mask(lengths, size) for lengths in batch])[:, None]
    columns = SFTCollator(0, length=size)(packs)["startend_row_indices"]
    assert (columns.dtype, columns.shape) == (np.int32, (len(batch), 1, size, 1))
    np.testing.assert_array_equal(ColumnMask(columns, causal=True, seqlen_q=size).to_dense(), expected)
    dense = SFTCollator(0, length=size, mask="dense")(packs)["attention_mask"]
    assert dense.dtype == bool
    np.testing.assert_array_equal(dense, expected)


@given(batch=BATCHES, multiple=st.integers(1, 9))
def test_tokens_labels_positions_and_padding(batch, multiple):
    packs = packs_of(batch)
    out = SFTCollator(pad_token_id=3, multiple_of=multiple)(packs)
    longest = max(map(sum, batch))
    size = out["input_ids"].shape[1]
    assert size % multiple == 0 and longest <= size < longest + multiple
    for b, lengths in enumerate(batch):
        n = sum(lengths)
        np.testing.assert_array_equal(out["input_ids"][b], [*range(7, 7 + n), *[3] * (size - n)])
        np.testing.assert_array_equal(out["labels"][b], [*range(8, 8 + n), *[-100] * (size - n)])
        positions = [p for length in lengths for p in range(length)]
        np.testing.assert_array_equal(out["position_ids"][b], positions + [0] * (size - n))
    assert all(out[key].dtype == np.int64 for key in ("input_ids", "labels", "position_ids"))


def test_errors():
    packs = packs_of([[3, 4]])
    with pytest.raises(ValueError, match="a pack has 7 tokens, more than length = 6"):
        SFTCollator(0, length=6)(packs)
    with pytest.raises(ValueError, match="at least one pack"):
        SFTCollator(0)([])
    with pytest.raises(ValueError, match="mask must be one of columns, dense; got 'sparse'"):
        SFTCollator(0, mask="sparse")
    with pytest.raises(ValueError, match="length 10 is not a multiple of multiple_of = 4"):
        SFTCollator(0, length=10, multiple_of=4)
    with pytest.raises(ValueError, match="multiple_of must be at least 1; got 0"):
        SFTCollator(0, multiple_of=0)
