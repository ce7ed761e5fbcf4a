"""Tiny random models of PaddleFormers that run on the CPU, and one packed batch for them."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable

import numpy as np
import paddle
from paddle import nn
from paddleformers.transformers import (
    Ernie4_5Config,
    Ernie4_5ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)
from paddleformers.transformers.qwen2_5_vl.configuration import Qwen2_5_VLTextConfig
from paddleformers.transformers.qwen2_5_vl.modeling import Qwen2_5_VLTextModel
from paddleformers.transformers.qwen3_vl.configuration import Qwen3VLTextConfig
from paddleformers.transformers.qwen3_vl.modeling import Qwen3VLTextModel

from paddle_flashmask.packing import SFTCollator, pack_sft


def _without_paddlefleet(model: str) -> tuple[type, type]:
    """Config and plain causal language model of Qwen2 or Qwen3. Their module also imports the base class of a second
    implementation, from a library that is not on PyPI; here it gets an empty class of that name."""
    provider = types.ModuleType("paddleformers.transformers.gpt_provider")
    provider.GPTModelProvider = type("GPTModelProvider", (), {})
    sys.modules[provider.__name__] = provider
    package = f"paddleformers.transformers.{model.lower()}"
    try:
        modeling = importlib.import_module(f"{package}.modeling")
    finally:
        del sys.modules[provider.__name__]
    config = getattr(importlib.import_module(f"{package}.configuration"), f"{model}Config")
    return config, getattr(modeling, f"{model}ForCausalLMDeprecated")


LENGTHS = [5, 9, 7]
TOKENS = sum(LENGTHS)
SIZE = 24  # three rows of padding
VOCABULARY = 96
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


class WithHead(nn.Layer):
    """The text part of a vision-language model, whose layers are those of Qwen2 and Qwen3, as a language model."""

    def __init__(self, model: nn.Layer):
        super().__init__()
        self.model = model
        self.head = nn.Linear(COMMON["hidden_size"], VOCABULARY, bias_attr=False)

    def forward(self, input_ids, position_ids=None, **masks):
        if position_ids is not None:  # time, height and width
            position_ids = position_ids.unsqueeze(0).expand([3, *position_ids.shape])
        return self.head(self.model(input_ids, position_ids=position_ids, return_dict=True, **masks).last_hidden_state)


def _vl_text(config_class: type, model_class: type) -> Callable[[dict], nn.Layer]:
    def build(options: dict) -> nn.Layer:
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        config = config_class(**COMMON, rope_parameters=rope, use_cache=False)
        return WithHead(model_class(_with(config, options)))

    return build


def _causal_lm(config_class: type, model_class: type, **own) -> Callable[[dict], nn.Layer]:
    return lambda options: model_class(_with(config_class(**COMMON, **own), options))


def _with(config, options: dict):
    config.fuse_rms_norm = False  # the fused one has no CPU kernel
    config.use_cache = False
    for key, value in options.items():
        setattr(config, key, value)
    return config


FULL_ATTENTION = {
    "llama": _causal_lm(LlamaConfig, LlamaForCausalLM),
    "ernie4_5": _causal_lm(Ernie4_5Config, Ernie4_5ForCausalLM),
    "qwen2": _causal_lm(*_without_paddlefleet("Qwen2")),
    "qwen3": _causal_lm(*_without_paddlefleet("Qwen3")),
    "qwen2_5_vl_text": _vl_text(Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel),
    "qwen3_vl_text": _vl_text(Qwen3VLTextConfig, Qwen3VLTextModel),
}
SLIDING = {
    "phi3": _causal_lm(Phi3Config, Phi3ForCausalLM, sliding_window=4),
    # A scale of its own, and full attention in the second layer.
    "gemma3": _causal_lm(
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        sliding_window=4,
        query_pre_attn_scalar=20,
        layer_types=["sliding_attention", "full_attention"],
    ),
    # A learnable sink for every head, experts, and full attention in the second layer.
    "gpt_oss": _causal_lm(
        GptOssConfig, GptOssForCausalLM, sliding_window=4, num_local_experts=2, num_experts_per_tok=1
    ),
}
MODELS = FULL_ATTENTION | SLIDING


def build(name: str, implementation: str, **options) -> nn.Layer:
    """The same weights for every implementation."""
    paddle.seed(11)
    return MODELS[name]({"_attn_implementation": implementation, **options})


def packed_batch(mask: str = "columns", seed: int = 3) -> dict[str, paddle.Tensor]:
    """Documents of LENGTHS in one row of SIZE. Labels are the next tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in LENGTHS:
        ids = rng.integers(3, VOCABULARY, length + 1)
        rows.append({"input_ids": ids[:-1], "labels": ids[1:]})
    batch = SFTCollator(0, length=SIZE, mask=mask)(pack_sft(rows, SIZE, order="sequential")[:])
    if mask == "columns":
        batch["attn_mask_startend_row_indices"] = batch.pop("startend_row_indices")
    return {key: paddle.to_tensor(value) for key, value in batch.items()}


def documents(batch: dict[str, paddle.Tensor]) -> list[dict[str, paddle.Tensor]]:
    """Every document of the batch as a batch of its own, with no mask."""
    ends = np.cumsum(LENGTHS)
    return [
        {key: batch[key][:, end - length : end] for key in ("input_ids", "position_ids", "labels")}
        for end, length in zip(ends, LENGTHS, strict=True)
    ]


def logits_of(model: nn.Layer, batch: dict[str, paddle.Tensor]) -> paddle.Tensor:
    out = model(**{key: value for key, value in batch.items() if key != "labels"})
    if isinstance(out, (tuple, list)):
        out = out[0]
    return getattr(out, "logits", out)


def loss_sum(model: nn.Layer, batch: dict[str, paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
    """(cross entropy summed over the labelled tokens, logits)."""
    logits = logits_of(model, batch)
    labels = batch["labels"].unsqueeze(-1)
    return nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"), logits


def run(model: nn.Layer, batches: list[dict[str, paddle.Tensor]]):
    """(logits of all tokens, loss sum, gradients) of batches run one after the other."""
    logits, losses = [], []
    for batch in batches:
        loss, of_batch = loss_sum(model, batch)
        loss.backward()
        losses.append(float(loss))
        logits.append(of_batch.numpy()[0])
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    model.clear_gradients()
    return np.concatenate(logits)[:TOKENS], sum(losses), gradients


def assert_same(found, expected) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5 * np.abs(expected[0]).max())
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    assert found[2].keys() == expected[2].keys()
    for key, gradient in expected[2].items():
        tolerance = 1e-5 * max(1e-2, float(np.abs(gradient).max()))
        np.testing.assert_allclose(found[2][key], gradient, rtol=1e-5, atol=tolerance, err_msg=key)
