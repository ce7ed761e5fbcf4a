"""What tasks on preference data share: configuration, rows, packing, and their trainers on PaddleNLP's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from paddlenlp.trl import ModelConfig

from ..averages import Collected, StepAverages
from ..config.arguments import PADDLENLP_AVERAGE, Arguments
from ..config.preference import PreferenceData, PreferenceTraining
from ..data.packs import Batch
from ..data.preference_tokens import PreferenceTokens
from ..data.preferences import AnswerForm, PreferenceLines
from ..errors import UnsupportedConfigError
from ..lora import with_lora
from ..models.positions import extend_rotary_tables
from ..token_loss import IGNORED
from ..trainer import PackedOrder
from .prefix_trees import check_model_of_trees, in_trees
from .task import Task

REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected")
"""Figures of an evaluation of DPO and KTO."""


def preference_task(
    key: str, options: type, form: AnswerForm, choices: Mapping[str, Sequence[str]] | None = None, **record: Any
) -> Task:
    """A task with the keys of PaddleNLP's llm/alignment scripts.

    options: dataclass of the task's own keys, on `PreferenceOptions`. form: of its rows. record: the other fields of
    `Task`.
    """

    def rows(arguments: Arguments, tokenizer: Any, split: str) -> PreferenceTokens:
        data = arguments.data
        data_sets = arguments.data_sets["train_dataset_path" if split == "train" else "dev_dataset_path"]
        lines = PreferenceLines(data_sets, form, split, arguments.training.seed)
        return PreferenceTokens(lines, tokenizer, data.max_seq_len, chat=_uses_template(data))

    def settle_model(arguments: Arguments, config: Any) -> None:
        check_makes_logits(config, key)
        if arguments.options.share_prefixes:
            check_model_of_trees(config)

    return Task(
        key=key,
        groups=(ModelConfig, PreferenceData, PreferenceTraining, options),
        data_keys=_data_keys,
        max_length_key="max_seq_len",
        max_prompt_key="max_prompt_len",
        rows=rows,
        packing_options=_packing_options,
        settle_model=settle_model,
        choices={**(choices or {}), "loss_average": ("pairs", PADDLENLP_AVERAGE)},
        **record,
    )


def check_makes_logits(config: Any, task: str) -> None:
    """Raise UnsupportedConfigError for a model whose head and loss are one, so that it makes no logits."""
    for name in ("use_fused_head_and_loss_fn", "use_sparse_head_and_loss_fn"):
        if getattr(config, name, False):
            raise UnsupportedConfigError(
                f"{name} in the model's config.json is not supported in this release for {task}"
            )


def _uses_template(data: PreferenceData) -> bool:
    return data.chat_template is not None and data.chat_template.lower() != "none"


def _data_keys(training: PreferenceTraining) -> list[str]:
    return ["train_dataset_path"] * training.do_train + ["dev_dataset_path"] * training.do_eval


def _packing_options(arguments: Arguments) -> dict[str, Any]:
    data = arguments.data
    return {
        "max_prompt_length": data.max_prompt_len,
        "order": "first_fit_decreasing" if data.greedy_zero_padding else "sequential",
        "too_long": "truncate",
        "share_prefixes": arguments.options.share_prefixes,
    }


class PreferenceTrainer(StepAverages, PackedOrder):
    """Mixin that corrects PaddleNLP's DPO and KTO trainers on one process, in data parallel, and with packs."""

    def __init__(self, model, ref_model=None, **kwargs):
        super().__init__(model=model, ref_model=ref_model, **kwargs)
        self._trained = Collected()
        # PaddleNLP switches dropout off in the direct children of the model only, where there is none.
        for network in filter(None, (model, ref_model)):
            for layer in network.sublayers():
                if isinstance(layer, paddle.nn.Dropout):
                    layer.p = 0.0

    def _wrap_ref_model(self, model):
        """Leave the reference as it is. PaddleNLP hands it to fleet.distributed_model, which fails with Paddle 3.3;
        it has no gradients that processes would have to share."""
        return model

    def reference_logits(self, model, inputs):
        """Logits of the reference model, or of the base without its adapters. `model` is in training mode again."""
        with paddle.no_grad():
            if self.ref_model_wrapped is not None:
                return self.ref_model_wrapped(**inputs)
            training = model.training
            self.disable_lora(model)
            model.eval()
            logits = model(**inputs)
            self.enable_lora(model)
            if training:
                model.train()
            return logits

    def log(self, logs, **kwargs):
        """Add the figures of training since the last log.

        Log the right epoch: PaddleNLP multiplies it by num_train_epochs, which is wrong from the second one on.
        """
        if "loss" in logs and not self._paddlenlp_average:
            values = self._trained.take()
            figures = self.evaluation_figures(values) if values else {}
            logs.update({name: value for name, value in figures.items() if name != "loss"})
        epochs, self.args.num_train_epochs = self.args.num_train_epochs, 1
        try:
            super().log(logs, **kwargs)
        finally:
            self.args.num_train_epochs = epochs


def model_inputs(inputs: dict[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """The part of a batch that the model takes."""
    names = ("input_ids", "position_ids", "attention_mask", "attn_mask_startend_row_indices")
    return {name: inputs[name] for name in names if name in inputs}


def labels_of_answers(first: str, second: str, batch: Batch) -> np.ndarray:
    """The labels of both answers of every question, int64 [B, S], -100 elsewhere. Prefix trees have them already.

    first, second: the keys with the labels of each. PaddleNLP's criteria read them within the spans of response_indexs,
    (batch row, start, end of the first answer and start of the second, end of the second, ...).
    """
    if in_trees(batch):
        return batch["labels"]
    labels = np.full_like(batch["input_ids"], IGNORED)
    for row, start, middle, end in batch["response_indexs"][:, :4]:
        labels[row, start:middle] = batch[first][row, start:middle]
        labels[row, middle:end] = batch[second][row, middle:end]
    return labels


def model_and_reference(arguments: Arguments, model: Any) -> dict[str, Any]:
    """`model` and `ref_model` of PaddleNLP's DPO and KTO trainers.

    The reference of adapters is their base, and a loss without a reference has none: both are None.
    """
    options = arguments.options
    options.lora = arguments.model.lora  # PaddleNLP's trainers read it there
    reference = None
    if not (options.lora or getattr(options, "reference_free", False)):
        reference = _frozen_copy(model)
    if options.lora:
        model = with_lora(model, arguments)
    return {"model": model, "ref_model": reference}


def _frozen_copy(model: Any) -> Any:
    """The model as it is before the first step. (PaddleNLP would draw another model where weights are random.)"""
    # Parameter names of its own: the trained model keeps those that an optimizer state on disk refers to.
    with paddle.utils.unique_name.guard("reference_"):
        copy = type(model).from_config(model.config, dtype=model.config.dtype)
    extend_rotary_tables(copy, model.config.seq_length)
    copy.set_state_dict(model.state_dict())
    copy.eval()
    for parameter in copy.parameters():
        parameter.stop_gradient = True
    return copy
