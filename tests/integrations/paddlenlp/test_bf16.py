"""Attention in bfloat16 within models in float32, five steps on columns: the error rule against each sample alone.

Paddle has no bfloat16 kernels for the CPU for most of what else a model does (`add`, `matmul`, ...), so a whole model
in bfloat16 cannot run there; the rounding of everything outside attention would be the same on both sides.
"""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from model_cases import expected_run, loss_of_samples_alone, packed_run

from paddle_flashmask import functional
from paddle_flashmask.masks import ColumnMask

OPERATOR = functional.flashmask_attention
KINDS = ["causal documents, n=1", "share question, n=1", "blockwise, n=2 causal", "prefix-LM documents, n=2"]


def rounded(x: paddle.Tensor) -> paddle.Tensor:
    return x.astype("bfloat16").astype("float32")


def operator_in_bfloat16(query, key, value, startend_row_indices, **options):
    low = (x.astype("bfloat16") for x in (query, key, value))
    return OPERATOR(*low, startend_row_indices, **options).astype("float32")


def plain_in_bfloat16(query, key, value, startend_row_indices, causal, **_):
    """Operands and probabilities rounded to bfloat16, sums in float32."""
    query, key, value = (rounded(x).transpose([0, 2, 1, 3]) for x in (query, key, value))
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, axis=1) for x in (key, value))
    visible = ColumnMask(startend_row_indices.numpy(), causal=causal, seqlen_q=query.shape[2]).to_dense()
    scores = query.matmul(key, transpose_y=True) * query.shape[-1] ** -0.5
    scores = paddle.where(paddle.to_tensor(visible), scores, paddle.full([1], -1e30))
    sees_something = paddle.to_tensor(visible.any(axis=-1, keepdims=True).astype("float32"))
    weights = rounded(paddle.nn.functional.softmax(scores) * sees_something)
    return rounded(weights.matmul(value)).transpose([0, 2, 1, 3])


def errors(found, expected) -> dict[str, float]:
    """Root mean squares over the steps, of the losses and of all gradients relative to their parameter's largest."""
    losses = np.subtract(found[0], expected[0])
    gradients = [
        (ours[name] - theirs[name]).ravel() / np.abs(theirs[name]).max()
        for ours, theirs in zip(found[1], expected[1], strict=True)
        for name in theirs
    ]
    return {
        key: np.sqrt(np.mean(np.square(x))) for key, x in (("loss", losses), ("gradient", np.concatenate(gradients)))
    }


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral", "gemma"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_keeps_to_the_error_of_bfloat16(name, kind, monkeypatch):
    expected = expected_run(name, kind, loss_of_samples_alone)
    found = {}
    for attention in (operator_in_bfloat16, plain_in_bfloat16):
        monkeypatch.setattr(functional, "flashmask_attention", attention)
        found[attention] = errors(packed_run(name, kind, flash=True), expected)
    ours, plain = found[operator_in_bfloat16], found[plain_in_bfloat16]
    assert 0 < ours["gradient"] <= 2 * plain["gradient"]
    assert ours["loss"] <= 2 * plain["loss"] + 1e-6
