"""The outputs of a model at every place of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import paddle

from ..context_parallel import sequences
from ..token_loss import logits_of

Batch = Mapping[str, Any]
MODEL_INPUTS = ("input_ids", "position_ids", "attention_mask", "attn_mask_startend_row_indices")
ANSWER_PLACES = "answer_places"


def row_outputs(model: Any, batch: Batch) -> paddle.Tensor:
    """Logits [B, S, V] of a language model, or scores [B, S, 1] of a reward model, whose batch has answer_places.

    Outputs of 16 bits are given in float32, which changes no value.
    """
    inputs = {name: _tensor(batch[name]) for name in MODEL_INPUTS if batch.get(name) is not None}
    rows, size = inputs["input_ids"].shape
    with paddle.no_grad():
        if ANSWER_PLACES not in batch:
            return sequences.whole(logits_of(model(**inputs)).astype("float32"))
        everywhere = np.stack(np.meshgrid(np.arange(rows), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)
        scores = model(**inputs, answer_places=paddle.to_tensor(everywhere))
        return scores.reshape([rows, size, 1]).astype("float32")


def _tensor(value: Any) -> paddle.Tensor:
    return value if isinstance(value, paddle.Tensor) else paddle.to_tensor(value)


def array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, paddle.Tensor) else np.asarray(value)


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


@contextlib.contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Take PaddleNLP's eager attention. Its flash path treats a mask as causal if its lower triangle is visible."""
    configs = {
        id(layer.config): layer.config for layer in model.sublayers(include_self=True) if hasattr(layer, "config")
    }
    flash = [config for config in configs.values() if getattr(config, "use_flash_attention", False)]
    for config in flash:
        config.use_flash_attention = False
    try:
        yield
    finally:
        for config in flash:
            config.use_flash_attention = True
