"""Supervised fine-tuning on instructions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import paddle
from paddlenlp.trl import DataConfig, ModelConfig, SFTConfig, SFTTrainer

from paddle_flashmask.packing import DocumentAttention, SFTCollator, pack_sft, pack_tree, stream_sft, stream_tree
from paddle_flashmask.packing.attention import KINDS

from ..averages import Collected, StepAverages
from ..config.arguments import PADDLENLP_AVERAGE, Arguments
from ..config.run_options import RunOptions
from ..context_parallel import sequences
from ..data.instructions import SFTLines, SFTTokens
from ..data.packs import with_paddlenlp_names
from ..errors import ConfigError, UnsupportedConfigError
from ..lora import with_lora
from ..token_loss import IGNORED, TokenLoss, WeightedTokenMean, labelled, logits_of, use_token_mean
from ..trainer import PackedOrder
from .instruction_packs import packing_order, settle_packing
from .prefix_trees import check_model_of_trees
from .task import Task


@dataclass
class SFTOptions(RunOptions):
    """Our keys of SFT configurations: which tokens of its own document a token sees, and what the loss is a mean over.

    loss_average: "tokens", all answer tokens of a step, or "paddlenlp", the mean of the means of the micro-batches.
    attention_mask_type: a kind of `DocumentAttention`; the source of a row is the prefix. attention_window_size: tokens
    that a token sees under sliding_window, itself included.
    share_prefixes: store the tokens that rows have in common at their start once, as a prefix tree.
    generate_samples: rows of the evaluation data whose last answer the model generates after every evaluation, with
    generate_max_new_tokens tokens at most.
    """

    attention_mask_type: str = "causal_document"
    attention_window_size: Optional[int] = None  # noqa: UP045
    loss_average: str = "tokens"
    share_prefixes: bool = False
    generate_samples: int = 0
    generate_max_new_tokens: int = 128

    def attention(self) -> DocumentAttention:
        return DocumentAttention(self.attention_mask_type, self.attention_window_size)


class PackedSFTTrainer(StepAverages, PackedOrder, SFTTrainer):
    """The loss is the mean over the answer tokens of a step; evaluation adds the token accuracy."""

    def __init__(self, model: Any, loss_average: str, **kwargs: Any):
        super().__init__(model=model, loss_average=loss_average, **kwargs)
        if loss_average != PADDLENLP_AVERAGE:
            use_token_mean(model)
        self._token_loss = TokenLoss()
        self._weighted_mean = WeightedTokenMean()

    def count_terms(self, inputs):
        return [int(_counts(inputs).sum())]

    def weighted_loss(self, model, inputs, weights):
        if "label_weights" not in inputs:
            return self.compute_loss(model, inputs) * weights[0]
        inputs = dict(inputs)
        labels, *of_labels = (inputs.pop(key) for key in ("labels", "label_weights", "label_counts"))
        return self._weighted_mean(logits_of(model(**inputs)), labels, *of_labels) * weights[0]

    def collect_evaluation(self, model, inputs, collected: Collected):
        inputs, counts = dict(inputs), _counts(inputs)
        labels = inputs.pop("labels")
        for key in ("label_weights", "label_counts"):
            inputs.pop(key, None)
        logits = logits_of(model(**inputs))
        tokens, labels, counts = int(counts.sum()), sequences.own(labels), sequences.own(counts)
        counts = counts.flatten().index_select((labels.flatten() != IGNORED).nonzero().flatten()).numpy()
        logits, labels = labelled(logits, labels)
        losses = self._token_loss(logits, labels.unsqueeze(-1)).squeeze(-1).numpy()
        correct = (logits.argmax(axis=-1) == labels).numpy()
        sums = np.array([(losses * counts).sum(dtype=np.float64), (correct * counts).sum()])
        loss, correct = sequences.total(paddle.to_tensor(sums)).tolist()
        collected.add(loss=loss, correct=correct, tokens=tokens)

    def evaluation_figures(self, values):
        tokens = max(values["tokens"].sum(), 1)
        return {"accuracy": values["correct"].sum() / tokens, "loss": values["loss"].sum() / tokens}


def _counts(inputs: dict[str, Any]) -> Any:
    """int64 [B, S]: the number of sequences that learn each label."""
    return inputs["label_counts"] if "label_counts" in inputs else (inputs["labels"] != IGNORED).astype("int64")


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    _check_attention(arguments.options)
    settle_packing(arguments)
    if arguments.options.share_prefixes:
        _check_sharing(arguments)
    if arguments.options.generate_samples and arguments.training.use_hybrid_parallel:
        raise UnsupportedConfigError(
            f"generate_samples = {arguments.options.generate_samples} needs the whole model in every process: one "
            "process, or data parallel ones"
        )


def _check_sharing(arguments: Arguments) -> None:
    options = arguments.options
    if options.attention_mask_type != "causal_document":
        raise UnsupportedConfigError(
            f"share_prefixes = true needs attention_mask_type = 'causal_document'; got {options.attention_mask_type!r}"
        )
    if options.loss_average == PADDLENLP_AVERAGE:
        raise ConfigError("share_prefixes = true needs loss_average = 'tokens': a label stands for several rows")


def _check_attention(options: SFTOptions) -> None:
    kind, window = options.attention_mask_type, options.attention_window_size
    if kind == "sliding_window" and window is None:
        raise ConfigError("attention_mask_type = 'sliding_window' needs attention_window_size, for example 512")
    if kind != "sliding_window" and window is not None:
        raise ConfigError(f"attention_window_size = {window} belongs to sliding_window, not to {kind!r}")
    if window is not None and window < 1:
        raise ConfigError(f"attention_window_size = {window} must be at least 1")


def _rows(arguments: Arguments, tokenizer: Any, split: str) -> SFTTokens:
    data = arguments.data
    lines = SFTLines(arguments.data_sets["dataset_name_or_path"], split, arguments.training.seed)
    return SFTTokens(lines, tokenizer, data.src_length, data.max_length, weighted=arguments.options.share_prefixes)


def _packing_options(arguments: Arguments) -> dict[str, Any]:
    options = {"order": packing_order(arguments.data), "too_long": "error"}
    if arguments.options.share_prefixes:
        return {**options, "share_prefixes": True}
    return {**options, "attention": arguments.options.attention()}


def _either(documents: Callable, trees: Callable) -> Callable:
    """A packing function that packs trees where share_prefixes is true."""

    def pack(rows: Any, max_length: int, *, share_prefixes: bool = False, **options: Any) -> Any:
        return (trees if share_prefixes else documents)(rows, max_length, **options)

    return pack


def _settle_model(arguments: Arguments, config: Any) -> None:
    attention = arguments.options.attention()
    config.flash_mask_causal = attention.causal
    if not (attention.causal or arguments.model.flash_mask) and "MistralForCausalLM" in config.architectures:
        raise UnsupportedConfigError(
            f"attention_mask_type = {attention.kind!r} needs flash_mask: PaddleNLP's Mistral makes dense masks causal"
        )
    if arguments.options.share_prefixes:
        check_model_of_trees(config)


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
    choices={"attention_mask_type": KINDS, "loss_average": ("tokens", PADDLENLP_AVERAGE)},
    own_keys=("dataset_name_or_path", "zero_padding", "src_length", "max_length"),
    groups=(ModelConfig, DataConfig, SFTConfig, SFTOptions),
    settle=_settle,
    data_keys=lambda training: ["dataset_name_or_path"],
    max_length_key="max_length",
    max_prompt_key="src_length",
    rows=_rows,
    pack=_either(pack_sft, pack_tree),
    stream=_either(stream_sft, stream_tree),
    packing_options=_packing_options,
    collator_class=SFTCollator,
    adapt_batch=with_paddlenlp_names,
    labels=operator.itemgetter("labels"),
    figures=("loss", "accuracy"),
    settle_model=_settle_model,
    trainer=_trainer,
)
