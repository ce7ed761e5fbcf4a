"""The entry of PaddleFormers 0.3.1's registry by itself: [B, S, H, D], its causal rule, and rejected arguments."""

from __future__ import annotations

import importlib.metadata
import types

import numpy as np
import paddle
import pytest
from paddleformers.nn.attention.eager_attention import eager_attention_forward
from paddleformers.nn.attention.interface import ALL_ATTENTION_FUNCTIONS

import paddle_flashmask
from paddle_flashmask import masks
from paddle_flashmask.integrations.paddleformers.attention_0_3 import paddle_flashmask_attention_0_3

B, S, HEADS, KV_HEADS, D = 2, 12, 4, 2, 8


def layer(**config) -> paddle.nn.Layer:
    made = paddle.nn.Layer()
    made.config = types.SimpleNamespace(**config)
    made.num_key_value_groups = HEADS // KV_HEADS
    made.eval()
    return made


def states() -> list[paddle.Tensor]:
    rng = np.random.default_rng(0)
    made = [paddle.to_tensor(rng.standard_normal((B, S, h, D)).astype("float32")) for h in (HEADS, KV_HEADS, KV_HEADS)]
    for tensor in made:
        tensor.stop_gradient = False
    return made


def outcome(function, mask: dict, **options) -> list[np.ndarray]:
    """Output and gradients of query, key and value."""
    tensors = states()
    out, _ = function(layer(), *tensors, **mask, **options)
    weights = paddle.to_tensor(np.random.default_rng(9).standard_normal(out.shape).astype("float32"))
    (out * weights).sum().backward()
    return [out.numpy(), *(tensor.grad.numpy() for tensor in tensors)]


def columns(mask: masks.ColumnMask) -> dict[str, paddle.Tensor]:
    return {"attn_mask_startend_row_indices": mask.to_paddle().expand([B, 1, S, -1])}


def dense(mask: masks.ColumnMask) -> dict[str, paddle.Tensor]:
    visible = paddle.to_tensor(mask.to_dense())
    return {"attention_mask": paddle.where(visible, paddle.zeros([1]), paddle.full([1], -1e6))}


SINK = {"sink": paddle.to_tensor(np.linspace(-1, 1, HEADS).astype("float32"))}
CASES = {
    "one bound": (masks.causal_document([5, 7]), {}),
    "two bounds": (masks.causal_blockwise([3, 4, 5]), {}),
    "one bound with a sink": (masks.causal_document([5, 7]), SINK),
    "two bounds with a sink": (masks.document([5, 7]), SINK),
    "two causal bounds with a sink": (masks.causal_blockwise([3, 4, 5]), {**SINK, "is_causal": True}),
    "four bounds with a sink": (masks.global_sliding_window(S, global_tokens=2, window=3), SINK),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("scaling", [D**-0.5, 0.2])
def test_columns_equal_the_dense_mask(kind, scaling):
    mask, options = CASES[kind]
    found = outcome(paddle_flashmask_attention_0_3, columns(mask), scaling=scaling, **options)
    for reference in (eager_attention_forward, paddle_flashmask_attention_0_3):
        expected = outcome(reference, dense(mask), scaling=scaling, **options)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def test_without_a_mask_or_a_sink_attention_is_causal_whatever_is_causal_says():
    found = outcome(paddle_flashmask_attention_0_3, {}, scaling=D**-0.5, is_causal=False)
    expected = outcome(eager_attention_forward, dense(masks.causal(S)), scaling=D**-0.5)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["context_parallel_degree", "sep_parallel_degree"])
def test_parts_of_a_sequence_are_refused(name):
    with pytest.raises(NotImplementedError, match=f"{name} = 2"):
        paddle_flashmask_attention_0_3(layer(**{name: 2}), *states())


def test_masks_per_head_under_tensor_parallelism_are_refused():
    mask = {"attn_mask_startend_row_indices": masks.causal(S).to_paddle().expand([B, HEADS, S, -1])}
    with pytest.raises(NotImplementedError, match="tensor_parallel_degree = 2"):
        paddle_flashmask_attention_0_3(layer(tensor_parallel_degree=2), *states(), **mask)


def test_masks_that_would_be_lost_are_refused():
    mask = masks.causal_document([5, 7])
    with pytest.raises(ValueError, match="both given"):
        paddle_flashmask_attention_0_3(layer(), *states(), **columns(mask), **dense(mask))
    with pytest.raises(ValueError, match="n = 4 are not causal"):
        four = masks.global_sliding_window(S, global_tokens=2, window=3)
        paddle_flashmask_attention_0_3(layer(), *states(), **columns(four))
    query, key, value = states()
    with pytest.raises(NotImplementedError, match="with 1 queries and 12 keys"):
        paddle_flashmask_attention_0_3(layer(), query[:, :1], key, value, **columns(mask))


@pytest.mark.parametrize("other", ["0.3.0", "0.4.0", "1.0.0", "1.1.1"])
def test_versions_in_between_are_refused_by_name(other, monkeypatch):
    paddle_flashmask.disable()
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: other if n == "paddleformers" else version(n))
    with pytest.raises(NotImplementedError, match=rf"this is {other}.*paddleformers==1\.2\.0.*paddleformers==0\.3\.1"):
        paddle_flashmask.enable()
    assert "paddle_flashmask" not in ALL_ATTENTION_FUNCTIONS
