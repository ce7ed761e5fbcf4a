"""Builders against the meanings of their masks, with random arguments."""

from __future__ import annotations

import mask_meanings as meanings
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask import masks
from paddle_flashmask.masks.registry import MASKS, MaskEntry


@pytest.mark.parametrize("entry", MASKS, ids=lambda entry: entry.name)
@given(data=st.data())
def test_a_builder_is_its_meaning(entry: MaskEntry, data: st.DataObject) -> None:
    means, arguments = meanings.MEANINGS[entry.name]
    drawn = data.draw(arguments)
    mask = entry.builder(**drawn)
    expected = means(**drawn)
    assert (mask.seqlen_q, mask.seqlen_k) == expected.shape
    np.testing.assert_array_equal(mask.to_dense()[0, 0], expected)


def test_one_window_is_both_sides() -> None:
    assert masks.global_sliding_window(20, 2, 3) == masks.global_sliding_window(20, 2, (3, 3))


@given(st.integers(0, 20), st.integers(1, 4), st.integers(0, 2**32), st.booleans())
def test_hash_bucket_queries(seqlen: int, buckets: int, seed: int, is_causal: bool) -> None:
    rng = np.random.default_rng(seed)
    query_buckets, key_buckets = rng.integers(-1, buckets, size=(2, seqlen))
    query_order, key_order = np.argsort(query_buckets, kind="stable"), np.argsort(key_buckets, kind="stable")
    sorted_buckets = query_buckets[query_order], key_buckets[key_order]
    positions = (query_order, key_order) if is_causal else (None, None)
    mask = masks.hash_sparse(*masks.hash_bucket_queries(*sorted_buckets, *positions))
    query_at, key_at = positions if is_causal else ([0] * seqlen, [0] * seqlen)
    expected = meanings.hash_buckets(*sorted_buckets, query_at, key_at)
    np.testing.assert_array_equal(mask.to_dense()[0, 0], expected)


@given(st.integers(0, 20), st.integers(1, 24), st.integers(0, 2**32))
def test_random_eviction_keeps_a_cache(seqlen: int, start: int, seed: int) -> None:
    mask = masks.random_eviction(seqlen, start, batch=2, heads=3, seed=seed)
    visible = mask.to_dense()
    assert visible.shape == (2, 3, seqlen, seqlen)
    assert mask == masks.random_eviction(seqlen, start, batch=2, heads=3, seed=seed)
    for row in range(seqlen):
        assert (visible[:, :, row].sum(axis=-1) == min(row + 1, start)).all()
        assert visible[:, :, row, row].all()
        if row > 0:
            evicted = visible[:, :, row - 1] & ~visible[:, :, row]
            assert (evicted.sum(axis=-1) == (row >= start)).all()


def test_random_eviction_differs_by_seed_row_and_head() -> None:
    mask = masks.random_eviction(200, 100, batch=2, heads=2, seed=3)
    maps = mask.startend_row_indices.reshape(4, 200)
    assert len({values.tobytes() for values in maps}) == 4
    assert mask != masks.random_eviction(200, 100, batch=2, heads=2, seed=4)


def test_random_eviction_is_uniform() -> None:
    evicted_first = masks.random_eviction(5, 4, batch=4000, seed=0).startend_row_indices[:, 0, :, 0] == 4
    share = evicted_first.mean(axis=0)
    np.testing.assert_allclose(share, [0.25, 0.25, 0.25, 0.25, 0.0], atol=0.03)


@pytest.mark.parametrize(
    "mask",
    [
        masks.full(9, length=6),
        masks.document([3, 2], 9),
        masks.global_sliding_window(9, 2, 1, length=6),
        masks.prefix_lm_document([3, 2], [2, 0], 9),
        masks.prefix_lm_causal(9, 2, length=6),
        masks.qk_sparse(9, [(1, 3)], length=6),
    ],
    ids=repr,
)
def test_the_upper_interval_ends_before_the_lower_starts(mask: masks.ColumnMask) -> None:
    """Other kernels read the intervals in that order, also for keys that no row sees."""
    assert (mask.startend_row_indices[..., -1] <= mask.startend_row_indices[..., 0]).all()


class TestBatches:
    def test_documents_of_each_row(self) -> None:
        mask = masks.document([[4, 3, 3], [5, 0, 2], []], 11)
        assert mask.startend_row_indices.shape == (3, 1, 11, 2)
        for row, lengths in enumerate([[4, 3, 3], [5, 0, 2], []]):
            np.testing.assert_array_equal(mask.to_dense()[row, 0], meanings.document(lengths, 11, "hidden"))

    def test_seqlen_is_the_longest_row(self) -> None:
        assert masks.causal_document([[4, 3], [2]]).seqlen_q == 7
        assert masks.causal_document([[4, 3], [2]]).seqlen_k == 7

    def test_share_question_of_each_row(self) -> None:
        rows = [[[2, 3, 1], [1, 2]], [[3]]]
        mask = masks.share_question(rows, padding="document")
        for row, groups in enumerate(rows):
            np.testing.assert_array_equal(mask.to_dense()[row, 0], meanings.share_question(groups, 9, "document"))

    def test_prefix_lm_document_of_each_row(self) -> None:
        mask = masks.prefix_lm_document([[4, 2], [3]], [[1, 2], [3]], 8)
        np.testing.assert_array_equal(mask.to_dense()[0, 0], meanings.prefix_lm_document([4, 2], [1, 2], 8, "hidden"))
        np.testing.assert_array_equal(mask.to_dense()[1, 0], meanings.prefix_lm_document([3], [3], 8, "hidden"))

    def test_causal_blockwise_of_each_row(self) -> None:
        mask = masks.causal_blockwise([[2, 3, 2], [4]], 8)
        np.testing.assert_array_equal(mask.to_dense()[0, 0], meanings.causal_blockwise([2, 3, 2], 8))
        np.testing.assert_array_equal(mask.to_dense()[1, 0], meanings.causal_blockwise([4], 8))

    def test_qk_sparse_of_each_row(self) -> None:
        mask = masks.qk_sparse(8, [[(1, 3)], [(0, 2), (2, 2)]], length=[8, 5])
        np.testing.assert_array_equal(mask.to_dense()[0, 0], meanings.qk_sparse(8, [(1, 3)], 8))
        np.testing.assert_array_equal(mask.to_dense()[1, 0], meanings.qk_sparse(8, [(0, 2), (2, 2)], 5))

    def test_prefix_and_length_of_each_row(self) -> None:
        mask = masks.prefix_lm_causal(6, [1, 3], length=[6, 4])
        np.testing.assert_array_equal(mask.to_dense()[0, 0], meanings.prefix_lm_causal(6, 1, 6))
        np.testing.assert_array_equal(mask.to_dense()[1, 0], meanings.prefix_lm_causal(6, 3, 4))

    def test_one_prefix_for_all_lengths(self) -> None:
        mask = masks.prefix_lm_causal(6, 2, length=[6, 4])
        np.testing.assert_array_equal(mask.to_dense()[1, 0], meanings.prefix_lm_causal(6, 2, 4))

    @pytest.mark.parametrize(
        "build",
        [
            lambda length: masks.full(6, length=length),
            lambda length: masks.causal(6, length=length),
            lambda length: masks.sliding_window(6, 2, length=length),
            lambda length: masks.global_sliding_window(6, 1, 1, length=length),
        ],
    )
    def test_length_of_each_row(self, build) -> None:
        mask = build([6, 3, 0])
        assert mask.batch == 3
        for row, length in enumerate([6, 3, 0]):
            np.testing.assert_array_equal(mask.to_dense()[row], build(length).to_dense()[0])

    def test_numpy_lengths(self) -> None:
        assert masks.document(np.array([4, 3, 3])) == masks.document([4, 3, 3])
        assert masks.document(np.array([[4, 3], [5, 2]])) == masks.document([[4, 3], [5, 2]])
        assert masks.causal(np.int64(5), length=np.array([3, 4])) == masks.causal(5, length=[3, 4])
