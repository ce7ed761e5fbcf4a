"""Supervised fine-tuning on instructions."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from paddlenlp.trl import DataConfig, ModelConfig, SFTConfig, SFTTrainer

from paddle_flashmask.packing import DocumentAttention, SFTCollator, pack_sft, stream_sft
from paddle_flashmask.packing.attention import KINDS

from ..averages import Collected, StepAverages
from ..config.arguments import PADDLENLP_AVERAGE, Arguments, check_choice
from ..data.instructions import SFTLines, SFTTokens
from ..data.packs import with_paddlenlp_names
from ..errors import ConfigError, UnsupportedConfigError
from ..lora import with_lora
from ..token_loss import IGNORED, TokenLoss, labelled, logits_of, use_token_mean
from ..trainer import PackedOrder
from .task import Task


@dataclass
class SFTOptions:
    """Our keys of SFT configurations: which tokens of its own document a token sees, and what the loss is a mean over.

    loss_average: "tokens", all answer tokens of a step, or "paddlenlp", the mean of the means of the micro-batches.
    attention_mask_type: a kind of `DocumentAttention`; the source of a row is the prefix. attention_window_size: tokens
    that a token sees under sliding_window, itself included.
    """

    attention_mask_type: str = "causal_document"
    attention_window_size: Optional[int] = None  # noqa: UP045
    loss_average: str = "tokens"

    def attention(self) -> DocumentAttention:
        return DocumentAttention(self.attention_mask_type, self.attention_window_size)


class PackedSFTTrainer(StepAverages, PackedOrder, SFTTrainer):
    """The loss is the mean over the answer tokens of a step; evaluation adds the token accuracy."""

    def __init__(self, model: Any, loss_average: str, **kwargs: Any):
        super().__init__(model=model, loss_average=loss_average, **kwargs)
        if loss_average != PADDLENLP_AVERAGE:
            use_token_mean(model)
        self._token_loss = TokenLoss()

    def count_terms(self, inputs):
        return [int((inputs["labels"] != IGNORED).sum())]

    def weighted_loss(self, model, inputs, weights):
        return self.compute_loss(model, inputs) * weights[0]

    def collect_evaluation(self, model, inputs, collected: Collected):
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        logits, labels = labelled(logits_of(model(**inputs)), labels)
        losses = self._token_loss(logits, labels.unsqueeze(-1)).numpy()
        correct = int((logits.argmax(axis=-1) == labels).sum())
        collected.add(loss=losses.sum(dtype=np.float64), correct=correct, tokens=labels.shape[0])

    def evaluation_figures(self, values):
        tokens = max(values["tokens"].sum(), 1)
        return {"accuracy": values["correct"].sum() / tokens, "loss": values["loss"].sum() / tokens}


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    _check_attention(arguments.options)
    check_choice("loss_average", arguments.options.loss_average, ("tokens", PADDLENLP_AVERAGE))
    data = arguments.data
    if arguments.model.flash_mask and not data.zero_padding:
        data.zero_padding = True
        arguments.notes.append("zero_padding is switched on: flash_mask works on packed data")
    if data.greedy_zero_padding and not data.zero_padding:
        raise ConfigError("greedy_zero_padding = true needs zero_padding = true: it selects how to pack")


def _check_attention(options: SFTOptions) -> None:
    kind, window = options.attention_mask_type, options.attention_window_size
    if kind not in KINDS:
        (nearest,) = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)
        raise ConfigError(
            f"attention_mask_type = {kind!r} must be one of {', '.join(KINDS)}; the nearest one is {nearest!r}"
        )
    if kind == "sliding_window" and window is None:
        raise ConfigError("attention_mask_type = 'sliding_window' needs attention_window_size, for example 512")
    if kind != "sliding_window" and window is not None:
        raise ConfigError(f"attention_window_size = {window} belongs to sliding_window, not to {kind!r}")
    if window is not None and window < 1:
        raise ConfigError(f"attention_window_size = {window} must be at least 1")


def _rows(arguments: Arguments, tokenizer: Any, split: str) -> SFTTokens:
    data = arguments.data
    return SFTTokens(SFTLines(data.dataset_name_or_path, split), tokenizer, data.src_length, data.max_length)


def _packing_options(arguments: Arguments) -> dict[str, Any]:
    data = arguments.data
    order = "first_fit_decreasing" if data.greedy_zero_padding else "sequential"
    return {
        "order": order if data.zero_padding else "single",
        "too_long": "error",
        "attention": arguments.options.attention(),
    }


def _settle_model(arguments: Arguments, config: Any) -> None:
    attention = arguments.options.attention()
    config.flash_mask_causal = attention.causal
    if not (attention.causal or arguments.model.flash_mask) and "MistralForCausalLM" in config.architectures:
        raise UnsupportedConfigError(
            f"attention_mask_type = {attention.kind!r} needs flash_mask: PaddleNLP's Mistral makes dense masks causal"
        )


def _trainer(arguments: Arguments, model: Any, **kwargs: Any) -> PackedSFTTrainer:
    if arguments.model.lora:
        model = with_lora(model, arguments)
    average = arguments.options.loss_average
    metrics = _accuracy if arguments.training.do_eval and average == PADDLENLP_AVERAGE else None
    return PackedSFTTrainer(model=model, loss_average=average, compute_metrics=metrics, **kwargs)


def _accuracy(predictions: Any) -> dict[str, float]:
    from paddlenlp.trl.llm_utils import compute_metrics

    return compute_metrics(predictions)


SFT = Task(
    key="sft",
    own_keys=("dataset_name_or_path", "zero_padding", "src_length", "max_length"),
    groups=(ModelConfig, DataConfig, SFTConfig, SFTOptions),
    settle=_settle,
    data_keys=lambda training: ["dataset_name_or_path"],
    max_length_key="max_length",
    max_prompt_key="src_length",
    rows=_rows,
    pack=pack_sft,
    stream=stream_sft,
    packing_options=_packing_options,
    collator_class=SFTCollator,
    adapt_batch=with_paddlenlp_names,
    settle_model=_settle_model,
    trainer=_trainer,
)
