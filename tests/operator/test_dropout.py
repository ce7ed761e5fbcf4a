"""Seed and offset of the operator's dropout stream, and its independence from other generators."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle.distributed.fleet.meta_parallel import get_rng_state_tracker

from paddle_flashmask import flashmask_attention
from paddle_flashmask.functional import _beside
from paddle_flashmask.reference import flashmask_attention as dense_attention


@pytest.fixture
def query() -> paddle.Tensor:
    paddle.seed(0)
    return paddle.randn([2, 48, 2, 8])


def attend(query, **options) -> np.ndarray:
    return flashmask_attention(query, query, query, **{"dropout": 0.3, **options}).numpy()


def test_paddle_seed_governs_it(query) -> None:
    paddle.seed(4)
    first, second = attend(query), attend(query)
    paddle.seed(4)
    assert np.array_equal(attend(query), first)
    assert not np.array_equal(first, second)


def test_returned_stream_repeats_the_call(query) -> None:
    first, seed_offset = flashmask_attention(query, query, query, dropout=0.3, return_seed_offset=True)
    assert seed_offset.dtype == paddle.int64
    assert np.array_equal(attend(query, fixed_seed_offset=seed_offset), first.numpy())
    assert not np.array_equal(attend(query, fixed_seed_offset=seed_offset + 1), first.numpy())


def test_fixed_stream_draws_nothing_from_the_generator(query) -> None:
    paddle.seed(4)
    expected = paddle.rand([3]).numpy()
    paddle.seed(4)
    attend(query, fixed_seed_offset=paddle.to_tensor([1, 2], dtype="int64"))
    assert np.array_equal(paddle.rand([3]).numpy(), expected)


@pytest.mark.parametrize("options", [{"dropout": 0.0}, {"training": False}])
def test_no_dropout_draws_nothing_and_drops_nothing(query, options) -> None:
    plain = flashmask_attention(query, query, query).numpy()
    paddle.seed(4)
    expected = paddle.rand([3]).numpy()
    paddle.seed(4)
    assert np.array_equal(attend(query, **options), plain)
    assert np.array_equal(paddle.rand([3]).numpy(), expected)


def test_it_is_the_reference_dropout(query) -> None:
    seed_offset = paddle.to_tensor([2**62 + 5, -3], dtype="int64")
    expected = dense_attention(
        *[query.astype("float64")] * 3, dropout=0.3, fixed_seed_offset=seed_offset, return_softmax_lse=True
    )
    found = flashmask_attention(
        query, query, query, dropout=0.3, fixed_seed_offset=seed_offset, return_softmax_lse=True
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5)


def test_named_state(query) -> None:
    tracker = get_rng_state_tracker()
    tracker.reset()
    tracker.add("flashmask_test", 123)
    try:
        paddle.seed(4)
        first = attend(query, rng_name="flashmask_test")
        expected = paddle.rand([3]).numpy()
        paddle.seed(4)
        assert np.array_equal(paddle.rand([3]).numpy(), expected), "the global generator was touched"
        assert not np.array_equal(attend(query, rng_name="flashmask_test"), first), "the named state did not move"
        tracker.reset()
        tracker.add("flashmask_test", 123)
        assert np.array_equal(attend(query, rng_name="flashmask_test"), first)
    finally:
        tracker.reset()
    with pytest.raises(ValueError, match="no_such_state"):
        attend(query, rng_name="no_such_state")


def test_the_stream_follows_query_to_its_device(query) -> None:
    moves = []
    elsewhere = SimpleNamespace(place="another device", to=lambda place: moves.append(place) or "moved")
    assert _beside(elsewhere, query) == "moved" and moves == [query.place]
    here = paddle.to_tensor([1, 2], dtype="int64")
    assert _beside(here, query) is here
    assert _beside(None, query) is None
