"""The twelve example masks of arXiv 2410.01359, figure 1(b): 10 tokens each."""

from __future__ import annotations

import numpy as np
import pytest

from paddle_flashmask import masks
from paddle_flashmask.masks import ColumnMask
from paddle_flashmask.masks.registry import MASKS

TEN = [10] * 10

FIGURE = {
    "causal": (masks.causal(10, length=8), True, [[8] * 10]),
    "sliding_window": (masks.sliding_window(10, 3), True, [[3, 4, 5, 6, 7, 8, 9, 10, 10, 10]]),
    "causal_document": (masks.causal_document([4, 3, 3]), True, [[4, 4, 4, 4, 7, 7, 7, 10, 10, 10]]),
    "document": (
        masks.document([4, 3, 3]),
        False,
        [[4, 4, 4, 4, 7, 7, 7, 10, 10, 10], [0, 0, 0, 0, 4, 4, 4, 7, 7, 7]],
    ),
    "share_question": (masks.share_question([[4, 3, 3]]), True, [[10, 10, 10, 10, 7, 7, 7, 10, 10, 10]]),
    "global_sliding_window": (
        masks.global_sliding_window(10, 2, 1),
        False,
        [[10, 10, 4, 5, 6, 7, 8, 9, 10, 10], TEN, [0, 0, 2, 2, 2, 2, 2, 2, 2, 2], [0, 0, 0, 0, 3, 4, 5, 6, 7, 8]],
    ),
    "causal_blockwise": (
        masks.causal_blockwise([4, 3, 3]),
        True,
        [[4, 4, 4, 4, 10, 10, 10, 10, 10, 10], [7, 7, 7, 7, 10, 10, 10, 10, 10, 10]],
    ),
    "prefix_lm_document": (
        masks.prefix_lm_document([3, 2, 5], [2, 2, 2]),
        False,
        [[3, 3, 3, 5, 5, 10, 10, 10, 10, 10], [0, 0, 2, 3, 3, 5, 5, 7, 8, 9]],
    ),
    "prefix_lm_causal": (masks.prefix_lm_causal(10, 5), False, [TEN, [0, 0, 0, 0, 0, 5, 6, 7, 8, 9]]),
    "qk_sparse": (
        masks.qk_sparse(10, [(2, 3), (6, 2)]),
        True,
        [[10, 10, 2, 3, 4, 5, 6, 7, 10, 10], [10, 10, 5, 5, 5, 5, 8, 8, 10, 10]],
    ),
    "hash_sparse": (
        masks.hash_sparse([0, 0, 1, 3, 4, 4, 5, 7, 8, 9], [2, 2, 4, 5, 5, 8, 8, 9, 10, 10]),
        False,
        [[2, 2, 4, 5, 5, 8, 8, 9, 10, 10], [0, 0, 1, 3, 4, 4, 5, 7, 8, 9]],
    ),
}
RANDOM_EVICTION = [10, 4, 8, 6, 10, 7, 10, 9, 10, 10]


def figure_values(channels: list[list[int]]) -> np.ndarray:
    return np.asarray(channels, dtype=np.int32).T[None, None]


def with_one_empty_interval(values: np.ndarray) -> np.ndarray:
    """LTS, LTE with every empty interval as [10, 10); the figure has [5, 5) for one key of QK-sparse."""
    empty = values[..., :1] >= values[..., 1:2]
    return np.where(empty, 10, values)


@pytest.mark.parametrize("name", FIGURE)
def test_values_are_those_of_the_figure(name: str) -> None:
    mask, causal, channels = FIGURE[name]
    expected = figure_values(channels)
    assert mask.causal is causal
    assert mask.seqlen_q == 10
    if name == "qk_sparse":
        expected = with_one_empty_interval(expected)
        assert (expected != figure_values(channels)).sum() == 2
    np.testing.assert_array_equal(mask.startend_row_indices, expected)


@pytest.mark.parametrize("name", FIGURE)
def test_pairs_are_those_of_the_figure(name: str) -> None:
    mask, causal, channels = FIGURE[name]
    expected = ColumnMask(figure_values(channels), causal, 10)
    assert mask.equivalent(expected)
    np.testing.assert_array_equal(mask.to_dense(), expected.to_dense())


def test_pairs_of_random_eviction_in_the_figure() -> None:
    mask = ColumnMask(figure_values([RANDOM_EVICTION]), True, 10)
    visible = mask.to_dense()[0, 0]
    for query in range(10):
        for key in range(10):
            assert visible[query, key] == (key <= query < RANDOM_EVICTION[key])


def test_every_mask_of_the_figure_is_tested() -> None:
    in_the_figure = {entry.name for entry in MASKS if entry.source.startswith("arXiv 2410.01359, figure 1")}
    assert in_the_figure == set(FIGURE) | {"random_eviction"}
