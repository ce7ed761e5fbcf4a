"""Arguments of a rank in a group of one, with which no process group is needed."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import paddle_flashmask
from paddle_flashmask import masks
from paddle_flashmask.distributed import flashmask_attention

ROWS = [[(0, 32)]]


def tensors(**shapes) -> dict[str, paddle.Tensor]:
    sizes = {"query": [1, 32, 4, 8], "key": [1, 32, 2, 8], "value": [1, 32, 2, 8], **shapes}
    return {name: paddle.randn(shape) for name, shape in sizes.items()}


def test_a_group_of_one_is_one_device() -> None:
    given = tensors()
    given["startend_row_indices"] = masks.causal_document([20, 12]).to_paddle()
    options = {
        "causal": True,
        "return_softmax_lse": True,
        "return_seed_offset": True,
        "learnable_sink": paddle.randn([4]),
    }
    options |= {"dropout": 0.4, "fixed_seed_offset": paddle.to_tensor([3, 5], "int32"), "window_size": (9,)}
    whole = paddle_flashmask.flashmask_attention(**given, **options)
    for ours, theirs in zip(flashmask_attention(**given, rows=ROWS, **options), whole, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_drawn_streams_follow_the_generator() -> None:
    given, streams = tensors(), []
    for seed in (1, 1, 2):
        paddle.seed(seed)
        _, stream = flashmask_attention(**given, rows=ROWS, causal=None, dropout=0.1, return_seed_offset=True)
        streams.append(stream.tolist())
    assert streams[0] == streams[1] != streams[2]


def test_without_gradients_nothing_is_recorded() -> None:
    given = tensors()
    given["query"].stop_gradient = False
    with paddle.no_grad():
        assert flashmask_attention(**given, rows=ROWS).stop_gradient
    out = flashmask_attention(**given, rows=ROWS)
    out.sum().backward()
    assert given["query"].grad is not None and given["key"].grad is None


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        ({}, {"rows": [[(0, 31)]]}, ValueError, r"query has 32 rows, expected 31, those of rows\[0\]"),
        ({"key": [1, 16, 2, 8], "value": [1, 16, 2, 8]}, {}, ValueError, "key has 16 rows, expected 32"),
        ({"query": [1, 32, 0, 8]}, {}, NotImplementedError, "query has 0 heads"),
        ({}, {"rows": [[(0, 8), (8, 32)]], "dropout": 0.1}, ValueError, "expected a multiple of 16 as its begin"),
        ({}, {"window_size": (1, 2, 3)}, TypeError, "window_size is"),
        ({}, {"learnable_sink": paddle.zeros([3])}, ValueError, "learnable_sink has shape"),
        (
            {},
            {"startend_row_indices": paddle.zeros([1, 1, 31, 2], "int32")},
            ValueError,
            r"startend_row_indices has shape \[1, 1, 31, 2\], expected \[B, Hm, Sk, n\] = \[1, 1, 32, 2\]",
        ),
    ],
)
def test_other_arguments_are_refused(shapes: dict, options: dict, error, message: str) -> None:
    with pytest.raises(error, match=message):
        flashmask_attention(**tensors(**shapes), **{"rows": ROWS, **options})
