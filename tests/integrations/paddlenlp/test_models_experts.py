"""Mixture-of-experts models: PaddleNLP's router on recent Paddle, and DeepSeek's heads."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from model_cases import build
from paddlenlp.transformers import moe_gate
from paddlenlp.transformers.deepseek_v2 import modeling as deepseek_v2

import paddle_flashmask
from paddle_flashmask import functional, masks
from paddle_flashmask.integrations.paddlenlp.models import expert_router
from paddle_flashmask.integrations.paddlenlp.models.replacements import Replacements

SUMS_INT32_TO_INT64 = paddle.cumsum(paddle.zeros([1], dtype="int32"), axis=0).dtype != paddle.int32


class Router:
    def __init__(self, num_experts: int, top_k: int):
        self.num_experts, self.top_k = num_experts, top_k


@pytest.mark.parametrize("capacity", [1, 2, 5, 40])
@pytest.mark.parametrize(("num_experts", "top_k"), [(4, 2), (5, 1), (3, 3)])
def test_places_are_those_of_paddlenlp(monkeypatch, num_experts, top_k, capacity):
    """Against PaddleNLP's own code with the running sum in int32, as in older Paddle."""
    rng = np.random.default_rng(num_experts)
    experts = np.argsort(rng.random((13, num_experts)), axis=1)[:, :top_k]
    router, chosen = Router(num_experts, top_k), paddle.to_tensor(experts)
    found = expert_router.places_at_experts(router, chosen, capacity)
    running_sum = paddle.cumsum
    monkeypatch.setattr(paddle, "cumsum", lambda x, axis: running_sum(x, axis=axis).cast(x.dtype))
    expected = moe_gate.PretrainedMoEGate._priority(router, chosen, capacity)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("name", ["qwen2_moe", "deepseek_v2", "deepseek_v3"])
@pytest.mark.skipif(not SUMS_INT32_TO_INT64, reason="PaddleNLP's router runs as it is on this Paddle")
def test_the_router_runs_while_enabled_and_stops_as_before_otherwise(name):
    model, ids = build(name), paddle.ones([1, 6], dtype="int64")
    before = moe_gate.PretrainedMoEGate._priority
    with paddle_flashmask.enabled():
        model(input_ids=ids)
    assert moe_gate.PretrainedMoEGate._priority is before
    with pytest.raises(TypeError, match="got different data type x: int64, y: int32"):
        model(input_ids=ids)


def test_a_paddle_that_keeps_int32_is_left_alone(monkeypatch):
    running_sum = paddle.cumsum
    monkeypatch.setattr(paddle, "cumsum", lambda x, axis: running_sum(x, axis=axis).cast(x.dtype))
    before = moe_gate.PretrainedMoEGate._priority
    expert_router.patch(moe_gate, Replacements())
    assert moe_gate.PretrainedMoEGate._priority is before


@pytest.mark.skipif(not SUMS_INT32_TO_INT64, reason="the router is left alone on this Paddle")
def test_another_router_is_refused(monkeypatch):
    monkeypatch.setattr(moe_gate.PretrainedMoEGate, "_priority", lambda self, scores: scores)
    with pytest.raises(NotImplementedError, match=r"_priority has the parameters \['self', 'scores'\]"):
        expert_router.patch(moe_gate, Replacements())


def deepseek_arguments(flash: bool) -> dict:
    """Heads of the published models: 128 + 64 for queries and keys, 128 for values."""
    rng = np.random.default_rng(0)
    shapes = {"query_states": [1, 40, 2, 192], "key_states": [1, 40, 2, 192], "value_states": [1, 40, 2, 128]}
    states = {name: paddle.to_tensor(rng.standard_normal(shape, dtype=np.float32)) for name, shape in shapes.items()}
    for state in states.values():
        state.stop_gradient = False
    config = {"use_flash_attention": flash, "attention_dropout": 0.0, "context_parallel_degree": 1}
    return {
        **states,
        "config": type("Config", (), config),
        "attention_mask": None,
        "output_attentions": False,
        "softmax_scale": 0.1147 * 1.2,
    }


def with_gradients(attention, **given) -> list[np.ndarray]:
    out = attention(**given)
    (out * paddle.cos(paddle.arange(out.size, dtype="float32").reshape(out.shape))).sum().backward()
    return [out.numpy(), *(given[name].grad.numpy() for name in ("query_states", "key_states", "value_states"))]


def assert_close(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * np.abs(theirs).max())


def test_deepseek_heads_are_neither_scaled_nor_padded_and_give_the_same(monkeypatch):
    mask = masks.causal_document([[11, 20, 9]])
    layer = deepseek_v2.DeepseekV2Attention.__new__(deepseek_v2.DeepseekV2Attention)
    layer.__dict__["attn_func"] = deepseek_v2.scaled_dot_product_attention
    seen = []
    operator = functional.flashmask_attention

    def watched(query, key, value, *args, **options):
        seen.append(value.shape[-1])
        return operator(query, key, value, *args, **options)

    monkeypatch.setattr(functional, "flashmask_attention", watched)
    columns = {"attn_mask_startend_row_indices": mask.to_paddle()}
    with paddle_flashmask.enabled():
        routed = type(layer).__dict__["attn_func"].__get__(layer)
        eager = with_gradients(routed, **deepseek_arguments(False), **columns)
        flash = with_gradients(routed, **deepseek_arguments(True), **columns)
        padded = with_gradients(deepseek_v2.scaled_dot_product_attention, **deepseek_arguments(True), **columns)
    assert seen == [128, 128, 192]
    given = deepseek_arguments(False)
    given["attention_mask"] = paddle.to_tensor(np.where(mask.to_dense(), np.float32(0), np.finfo(np.float32).min))
    expected = with_gradients(deepseek_v2.scaled_dot_product_attention, **given)
    for found in (eager, flash, padded):
        assert_close(found, expected)
