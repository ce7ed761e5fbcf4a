"""Training on columns equals training on each sample alone and with the dense mask, in every model, mask and path."""

from __future__ import annotations

import paddle
import pytest
from model_cases import (
    KINDS,
    LENGTH,
    MODELS,
    assert_same_gradients,
    assert_same_run,
    batch_of,
    build,
    dense_loss,
    dispatch_without_gradient,
    expected_run,
    gradients_of,
    loss_of_samples_alone,
    mask_not_made_causal,
    packed_loss,
    packed_run,
    repaired_router,
)

import paddle_flashmask
from paddle_flashmask import functional

EXPERTS = ["qwen2_moe", "deepseek_v2", "deepseek_v3"]
KINDS_FOR_EXPERTS = ["share question, n=1", "blockwise, n=2 causal", "prefix-LM documents, n=2"]


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in MODELS for kind in (KINDS_FOR_EXPERTS if name in EXPERTS else KINDS)]
)
def test_training_equals_the_samples_alone_and_the_dense_mask(name, kind, flash):
    found = packed_run(name, kind, flash=flash)
    assert_same_run(found, expected_run(name, kind, loss_of_samples_alone))
    assert_same_run(found, expected_run(name, kind, dense_loss))


GRANULARITIES = {
    "mistral": ["full"],  # PaddleNLP has no other for it
    **dict.fromkeys(["llama", "qwen2", "gemma", "qwen2_moe"], ["full", "full_attn", "core_attn"]),
    # Under full_attn PaddleNLP's own backward stops with an AssertionError, dense masks included.
    **dict.fromkeys(["deepseek_v2", "deepseek_v3"], ["full", "core_attn"]),
}


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the columns of every call of the operator."""
    seen = []
    operator = functional.flashmask_attention

    def counted(query, key, value, startend_row_indices=None, **options):
        seen.append(list(startend_row_indices.shape))
        return operator(query, key, value, startend_row_indices, **options)

    monkeypatch.setattr(functional, "flashmask_attention", counted)
    return seen


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize(
    ("name", "granularity"), [(name, granularity) for name in GRANULARITIES for granularity in GRANULARITIES[name]]
)
def test_recompute_sees_the_mask_of_its_own_forward(name, granularity, flash, reentrant, calls):
    """Two forward passes with different masks precede the two backward passes."""
    batches = [batch_of("prefix-LM documents, n=2", seed=1), batch_of("documents, n=2", seed=2)]
    options = {"recompute": True, "recompute_granularity": granularity, "recompute_use_reentrant": reentrant}
    with paddle_flashmask.enabled(), dispatch_without_gradient():
        model = build(name, flash, flash_mask_causal=False, **options)
        losses = [packed_loss(model, batch) for batch in batches]
        assert len(calls) == 4  # two layers
        for loss in losses:
            loss.backward()
        assert len(calls) == 8
        found = gradients_of(model)
    with repaired_router(), mask_not_made_causal(), dispatch_without_gradient():
        model = build(name)
        sum(dense_loss(model, batch) for batch in batches).backward()
        expected = gradients_of(model)
    assert_same_gradients(found, expected)


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("name", ["mistral", "gemma"])
def test_layers_without_the_operator_do_not_misread_columns(name, flash):
    """The error of a backward pass with recompute after disable()."""
    layer = getattr(build(name, flash), name).layers[0]
    hidden, positions = paddle.rand([2, LENGTH, 32]), paddle.arange(LENGTH).expand([2, LENGTH])
    columns = KINDS["documents, n=2"][0].to_paddle()
    with pytest.raises((ValueError, TypeError)):
        layer(hidden, attention_mask=columns, position_ids=positions)


def test_attention_dropout_of_the_config_is_applied():
    batch = batch_of("causal documents, n=1")
    with paddle_flashmask.enabled():
        model = build("gemma", attention_dropout=0.5)
        for layer in model.gemma.layers:
            layer.self_attn.attention_dropout = 0.5
        first, second = float(packed_loss(model, batch)), float(packed_loss(model, batch))
        model.eval()
        quiet = float(packed_loss(model, batch))
        assert quiet == float(packed_loss(model, batch))
    assert first != second and first != quiet
