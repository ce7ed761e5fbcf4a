"""Gradients under Paddle's recompute, which repeats the forward with the same mask and dropout."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle.distributed.fleet.utils import recompute

from paddle_flashmask import flashmask_attention


def block(query, key, value, startend, dropout):
    out, lse = flashmask_attention(query, key, value, startend, causal=True, dropout=dropout, return_softmax_lse=True)
    return out * 2, lse


def gradients(call, dropout: float) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    tensors = [paddle.to_tensor(rng.standard_normal((2, 40, 2, 8), dtype=np.float32)) for _ in range(3)]
    for t in tensors:
        t.stop_gradient = False
    startend = paddle.full([2, 1, 40, 1], 25, dtype="int32")
    paddle.seed(5)
    out, lse = call(*tensors, startend, dropout)
    loss = out.square().sum() + lse[:, :, :25].sum()
    loss.backward()
    return [out.numpy(), *(t.grad.numpy() for t in tensors)]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_recompute_changes_nothing(use_reentrant: bool, dropout: float) -> None:
    expected = gradients(block, dropout)
    found = gradients(lambda *a: recompute(block, *a, use_reentrant=use_reentrant), dropout)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_are_saved_in_the_order_of_the_arguments() -> None:
    """PaddleNLP's refined_recompute passes tensors by position: query, key, value, startend_row_indices."""
    shapes = {"query": [1, 6, 4, 8], "key": [1, 7, 2, 8], "value": [1, 7, 2, 5]}
    inputs = {name: paddle.randn(shape) for name, shape in shapes.items()}
    for t in inputs.values():
        t.stop_gradient = False
    inputs["startend_row_indices"] = paddle.full([1, 1, 7, 1], 4, dtype="int32")
    saved = []

    def pack(t):
        saved.append(list(t.shape))
        return t

    with paddle.autograd.saved_tensors_hooks(pack, lambda t: t):
        out, lse = flashmask_attention(**inputs, causal=True, return_softmax_lse=True)
    results = [list(out.shape), list(lse.shape)]
    assert [shape for shape in saved if shape not in results] == [list(t.shape) for t in inputs.values()]
