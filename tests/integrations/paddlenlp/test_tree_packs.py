"""Packs of prefix trees in PaddleNLP's models: losses and gradients of five steps are those of every sequence alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from model_cases import VOCABULARY, Run, assert_same_run, build, train
from paddlenlp.peft import LoRAConfig, LoRAModel

import paddle_flashmask
from paddle_flashmask.packing import IGNORED_LABEL, SFTCollator, pack_tree

MAX_LENGTH = 40


def rollouts() -> list[dict]:
    """Two prompts with rollouts of two rounds, which share the prompt and some the first round; of both signs."""
    rng = np.random.default_rng(4)
    rows = []
    for prompt_length in (6, 4):
        prompt = rng.integers(0, VOCABULARY, prompt_length)
        for _ in range(2):
            first, tool = rng.integers(0, VOCABULARY, 5), rng.integers(0, VOCABULARY, 3)
            for _ in range(2):
                last = rng.integers(0, VOCABULARY, rng.integers(1, 6))
                text = np.concatenate([prompt, first, tool, last])
                is_learned = np.repeat([False, True, False, True], [prompt_length, 5, 3, len(last)])
                labels = np.where(is_learned, text, IGNORED_LABEL)
                rows.append({"input_ids": text[:-1], "labels": labels[1:], "weight": rng.normal()})
    return rows


def logits_of(model, ids: np.ndarray, positions: np.ndarray, **mask) -> paddle.Tensor:
    out = model(input_ids=paddle.to_tensor(ids), position_ids=paddle.to_tensor(positions), **mask)
    return (out[0] if isinstance(out, (tuple, list)) else out).astype("float32")


def losses_of(logits: paddle.Tensor, labels: np.ndarray) -> paddle.Tensor:
    """float32 [B, S]: the negative log-likelihood of each label, 0 where there is none."""
    flat = F.cross_entropy(
        logits.reshape([-1, VOCABULARY]),
        paddle.to_tensor(labels).reshape([-1]),
        ignore_index=IGNORED_LABEL,
        reduction="none",
    )
    return flat.reshape(labels.shape)


def loss_of_every_sequence(model, rows: list[dict]) -> paddle.Tensor:
    """Every sequence run by itself, in full and without a mask but the causal one."""
    total, count = 0, 0
    for row in rows:
        ids, labels = row["input_ids"][None], row["labels"][None]
        logits = logits_of(model, ids, np.arange(ids.shape[1])[None])
        total += row["weight"] * losses_of(logits, labels).sum()
        count += (labels != IGNORED_LABEL).sum()
    return total / count


def loss_of_trees(model, rows: list[dict]) -> paddle.Tensor:
    packed = pack_tree(rows, MAX_LENGTH)
    assert packed.report.sharing > 1.3
    batch = SFTCollator(pad_token_id=0)(list(packed))
    columns = paddle.to_tensor(batch["startend_row_indices"])
    logits = logits_of(model, batch["input_ids"], batch["position_ids"], attn_mask_startend_row_indices=columns)
    weighted = losses_of(logits, batch["labels"]) * paddle.to_tensor(batch["label_weights"])
    return weighted.sum() / batch["label_counts"].sum()


def run_of(name: str, lora: bool, loss_of: Callable, **options) -> Run:
    model = build(name, **options)
    if lora:
        paddle.seed(5)
        model = LoRAModel(model, LoRAConfig(target_modules=[".*q_proj.*", ".*v_proj.*"], r=4, lora_alpha=8))
        model.mark_only_lora_as_trainable()
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:  # zero at the start, which would leave lora_A without a gradient
                parameter.set_value(paddle.randn(parameter.shape) * 0.1)
    return train(model, rollouts(), loss_of)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_training_equals_every_sequence_alone(name: str, lora: bool) -> None:
    expected = run_of(name, lora, loss_of_every_sequence)
    with paddle_flashmask.enabled():
        found = run_of(name, lora, loss_of_trees, flash=True, flash_mask_causal=True)
    assert_same_run(found, expected)
