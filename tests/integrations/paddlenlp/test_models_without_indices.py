"""Models whose forward takes no column indices: they get them, reject what would lose the mask, and are restored."""

from __future__ import annotations

import inspect
import sys
import warnings

import numpy as np
import paddle
import pytest
from model_cases import LENGTH, batch_of, build, dense_loss, mask_not_made_causal, packed_loss
from paddlenlp.transformers import MixtralConfig, MixtralForCausalLM
from paddlenlp.transformers.deepseek_v2 import modeling as deepseek_v2
from paddlenlp.transformers.deepseek_v3 import modeling as deepseek_v3
from paddlenlp.transformers.gemma import modeling as gemma
from paddlenlp.transformers.mistral import modeling as mistral
from paddlenlp.transformers.mixtral import modeling as mixtral

import paddle_flashmask
from paddle_flashmask.integrations.paddlenlp.models import without_indices

NAMES = ["mistral", "gemma", "deepseek_v3"]
PATCHED = [
    mistral.MistralForCausalLM,
    mistral.MistralModel,
    mistral.MistralAttention,
    mixtral,
    mixtral.MixtralForCausalLM,
    mixtral.MixtralModel,
    gemma,
    gemma.GemmaForCausalLM,
    gemma.GemmaModel,
    deepseek_v2.DeepseekV2Attention,
    deepseek_v2.DeepseekV2Model,
    deepseek_v3.DeepseekV3ForCausalLM,
]


def columns(length: int = LENGTH) -> paddle.Tensor:
    return paddle.full([2, length], length, dtype="int32")


def inputs() -> dict[str, paddle.Tensor]:
    return {"input_ids": paddle.ones([2, LENGTH], dtype="int64"), "attn_mask_startend_row_indices": columns()}


@pytest.mark.parametrize("name", NAMES)
def test_forward_names_the_indices_while_enabled(name):
    """PaddleNLP's trainer passes only the arguments in the signature."""
    model = build(name)
    before = inspect.signature(model.forward)
    with paddle_flashmask.enabled():
        while_enabled = inspect.signature(model.forward)
    assert set(while_enabled.parameters) - set(before.parameters) == {"attn_mask_startend_row_indices"}
    assert inspect.signature(model.forward) == before


def test_everything_is_given_back():
    before = [dict(vars(owner)) for owner in PATCHED]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with paddle_flashmask.enabled():
            while_enabled = [dict(vars(owner)) for owner in PATCHED]
    assert all(changed != original for changed, original in zip(while_enabled, before, strict=True))
    assert [dict(vars(owner)) for owner in PATCHED] == before
    for owner in PATCHED:  # and no other test left something behind
        if "forward" in vars(owner):
            assert owner.forward.__code__.co_filename == sys.modules[owner.__module__].__file__


@pytest.mark.parametrize("name", NAMES)
def test_other_arguments_arrive(name):
    model = build(name)
    with paddle_flashmask.enabled():
        out = model(**inputs(), return_dict=True, output_hidden_states=True)
    assert len(out.hidden_states) == 3 and out.logits.shape == [2, LENGTH, 64]


@pytest.mark.parametrize("flash", [True, False])
def test_mixtral(flash):
    """Its experts fail on Paddle 3.3 (a product of [T, hidden] and [T]), so its layers have none here."""
    batch, runs = batch_of("share question, n=1"), []
    for loss_of, scope in ((packed_loss, paddle_flashmask.enabled), (dense_loss, mask_not_made_causal)):
        paddle.seed(4)
        config = MixtralConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=1,
            max_position_embeddings=64,
        )
        config.use_flash_attention = flash and loss_of is packed_loss
        with scope():
            model = MixtralForCausalLM(config)
            for layer in model.mixtral.layers:
                layer.block_sparse_moe.forward = lambda hidden: (hidden, hidden)
            loss = loss_of(model, batch)
            loss.backward()
        runs.append((float(loss), model.mixtral.layers[0].self_attn.k_proj.weight.grad.numpy()))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-6)
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=0, atol=1e-5 * np.abs(runs[1][1]).max())


@pytest.mark.parametrize("name", ["llama", "qwen2", *NAMES])
def test_positions_are_those_given(name):
    """Positions that restart in every document give another result than positions that do not."""
    batch = batch_of("share question, n=1")
    with paddle_flashmask.enabled():
        model = build(name, use_flash_attention=True)
        restarting = float(packed_loss(model, batch))
        batch.position_ids[:] = np.arange(LENGTH)
        assert abs(float(packed_loss(model, batch)) - restarting) > 1e-4


@pytest.mark.parametrize("flash", [True, False])
def test_a_base_model_takes_them_too(flash):
    model = build("gemma", flash).gemma
    with paddle_flashmask.enabled():
        given = model(**inputs())[0]
        blind = inputs()
        blind["attn_mask_startend_row_indices"] = columns() * 0
        assert float((given - model(**blind)[0]).abs().max()) > 1e-3
        np.testing.assert_allclose(model(input_ids=blind["input_ids"])[0], given, atol=1e-5)  # all columns: causal


def test_the_cache_is_the_one_of_the_dense_mask():
    ids = inputs()["input_ids"]
    model = build("mistral")
    expected = model(input_ids=ids, use_cache=True)[1]
    with paddle_flashmask.enabled():
        found = model(**inputs(), use_cache=True)[1]
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_the_users_tensor_is_not_marked():
    """The caller can use the same tensor for something else afterwards."""
    indices = columns().reshape([2, 1, LENGTH, 1])
    with paddle_flashmask.enabled():
        build("mistral")(input_ids=inputs()["input_ids"], attn_mask_startend_row_indices=indices)
    assert not without_indices._is_marked(indices)


REFUSED = [
    ({"attention_mask": paddle.ones([2, LENGTH])}, {}, ValueError, "were both given"),
    ({"past_key_values": [None]}, {}, ValueError, "past_key_values with attn_mask"),
    ({"output_attentions": True}, {}, NotImplementedError, "computes no attention weights"),
    ({}, {"output_attentions": True}, NotImplementedError, "computes no attention weights"),
    ({}, {"alibi": True}, NotImplementedError, "alibi and attn_mask_startend_row_indices"),
    ({}, {"context_parallel_degree": 2}, NotImplementedError, "context_parallel_degree = 2"),
    ({}, {"sep_parallel_degree": 2}, NotImplementedError, "sep_parallel_degree = 2"),
    ({"attn_mask_startend_row_indices": columns().astype("int64")}, {}, TypeError, "must be int32, got paddle.int64"),
    ({"attn_mask_startend_row_indices": columns(LENGTH - 1)}, {}, ValueError, "startend_row_indices"),
]


@pytest.mark.parametrize(("given", "config", "error", "message"), REFUSED)
@pytest.mark.parametrize("name", NAMES)
def test_what_would_lose_the_mask_is_refused(name, given, config, error, message):
    model = build(name)
    for key, value in config.items():
        setattr(model.config, key, value)
    with paddle_flashmask.enabled(), pytest.raises(error, match=message):
        model(**{**inputs(), **given})


def other_attention(query_states, config, key_states, value_states, mask):
    raise AssertionError


def other_forward(self, input_ids):
    raise AssertionError


@pytest.mark.parametrize(
    ("module", "owner", "name", "value", "message"),
    [
        (gemma, gemma, "scaled_dot_product_attention", other_attention, "has no parameter attention_mask"),
        (gemma, gemma, "GemmaModel", None, "lacks GemmaModel"),
        (mixtral, mixtral.MixtralForCausalLM, "forward", other_forward, r"forward has the parameters .*input_ids"),
        (mistral, mistral.MistralAttention, "forward", other_forward, r"forward has the parameters .*input_ids"),
    ],
)
def test_an_unknown_version_is_refused_and_nothing_stays_patched(monkeypatch, module, owner, name, value, message):
    if value is None:
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, value)
    before = [dict(vars(patched)) for patched in PATCHED]
    with pytest.raises(NotImplementedError, match=message):
        paddle_flashmask.enable()
    assert [dict(vars(patched)) for patched in PATCHED] == before
