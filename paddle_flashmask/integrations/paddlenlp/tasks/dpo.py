"""Direct preference optimization (arXiv 2305.18290) and the other losses of PaddleNLP's DPOCriterion."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddlenlp.trl import DPOTrainer

from paddle_flashmask.packing import PreferenceCollator, pack_preference, stream_answers

from ..averages import Collected, mean
from ..config.arguments import PADDLENLP_AVERAGE, Arguments
from ..config.preference import PreferenceOptions, settle_options
from ..data.packs import Batch, labels_within, with_paddlenlp_names
from ..data.preferences import AnswerForm, PreferenceRow, TokenRow, ranked_row
from ..errors import ConfigError, UnsupportedConfigError
from ..token_loss import GivenLosses, TokenLoss, token_losses
from .preference import (
    REWARDS,
    PreferenceTrainer,
    labels_of_answers,
    model_and_reference,
    model_inputs,
    preference_task,
)
from .prefix_trees import answer_log_probabilities, in_trees

# Loss types of PaddleNLP's DPOCriterion, by how they use a reference model.
REFERENCE_FREE_ONLY = ("or", "simpo")
REFERENCE_OR_FREE = ("sigmoid", "hinge", "ipo")
REFERENCE_ONLY = ("kto_pair", "sppo_hard", "nca_pair", "dpop")
ODDS = ("log_odds_ratio", "log_odds_chosen")
"""Figures of loss_type = "or"."""
LOSSES = (*REFERENCE_OR_FREE, *REFERENCE_ONLY, *REFERENCE_FREE_ONLY)


@dataclass
class DPOOptions(PreferenceOptions):
    beta: float = 0.1
    simpo_gamma: float = 0.5
    label_smoothing: float = 0.0
    loss_type: str = "sigmoid"
    pref_loss_ratio: float = 1.0
    sft_loss_ratio: float = 0.0
    dpop_lambda: float = 50.0
    ref_model_update_steps: int = -1
    reference_free: bool = False


class PackedDPOTrainer(PreferenceTrainer, DPOTrainer):
    """Scores every token of both answers.

    PaddleNLP's script passes ignore_eos_token=True, which in the layout of paddlenlp 3.0.0b4 leaves the first token of
    the rejected answer out of its log-probability and shortens the mean of the chosen one.
    """

    def __init__(self, **kwargs):
        super().__init__(ignore_eos_token=False, **kwargs)
        self.dpo_criterion.logprobs = TokenLoss() if self._paddlenlp_average else GivenLosses()

    def count_terms(self, inputs):
        """Pairs, for the preference loss, and tokens of the chosen answers, for the SFT loss."""
        if in_trees(inputs):
            answers = inputs["label_places"][:, 2]
            return [int(answers[-1]) // 2 + 1, int((answers % 2 == 0).sum())]
        spans = inputs["response_indexs"]
        return [spans.shape[0], int((spans[:, 2] - spans[:, 1]).sum())]

    def weighted_loss(self, model, inputs, weights):
        chosen, rejected, reference, chosen_sums = self._logps(model, inputs)
        tokens = self.count_terms(inputs)[1]
        preference = self.dpo_criterion.dpo_loss(chosen, rejected, *reference)
        sft = -chosen_sums.sum() / tokens * self.dpo_config.sft_loss_ratio
        self._collect(self._trained, inputs, chosen, rejected, reference, chosen_sums)
        return preference * weights[0] + sft * weights[1]

    def collect_evaluation(self, model, inputs, collected: Collected):
        self._collect(collected, inputs, *self._logps(model, inputs))

    def evaluation_figures(self, values):
        options = self.dpo_config
        chosen, rejected = values["chosen"], values["rejected"]
        rewards = [options.beta * (values[name] - values[f"reference_{name}"]) for name in ("chosen", "rejected")]
        names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
        preference = float(self.dpo_criterion.dpo_loss(*(paddle.to_tensor(values[name]) for name in names)))
        sft = -options.sft_loss_ratio * values["chosen_sums"].sum(dtype="float64") / values["chosen_tokens"].sum()
        figures = {
            "rewards/chosen": mean(rewards[0]),
            "rewards/rejected": mean(rewards[1]),
            "rewards/accuracies": mean(rewards[0] > rewards[1]),
            "rewards/margins": mean(rewards[0] - rewards[1]),
            "logps/rejected": mean(rejected),
            "logps/chosen": mean(chosen),
            f"{options.loss_type}_loss": preference,
            "sft_loss": float(sft),
            "loss": preference + float(sft),
        }
        if options.loss_type == "or":
            odds = (chosen - rejected) - (np.log1p(-np.exp(chosen)) - np.log1p(-np.exp(rejected)))
            figures["log_odds_ratio"] = mean(odds)
            figures["log_odds_chosen"] = mean(F.log_sigmoid(paddle.to_tensor(odds)).numpy())
        return figures

    def _logps(self, model, inputs):
        """Log-probabilities of the answers, (chosen, rejected, (reference chosen, reference rejected), chosen sums).

        All are float32 [pairs], means over tokens where the loss type takes those; the last are always sums.
        """
        given = model_inputs(inputs)
        chosen, rejected, chosen_sums = self._answer_logps(model(**given), inputs)
        if self.dpo_config.reference_free:
            reference = (paddle.zeros_like(chosen), paddle.zeros_like(rejected))
        else:
            with paddle.no_grad():
                reference = self._answer_logps(self.reference_logits(model, given), inputs)[:2]
        return chosen, rejected, reference, chosen_sums

    def _answer_logps(self, outputs, inputs):
        """(chosen, rejected, chosen sums) from the outputs of a model, as in `_logps`."""
        by_token = self.dpo_config.loss_type in ("ipo", "or", "simpo")
        if in_trees(inputs):
            sums, lengths = answer_log_probabilities(outputs, inputs)
            found = sums / lengths if by_token else sums
            return found[0::2], found[1::2], sums[0::2]
        spans = inputs["response_indexs"]
        labels = (inputs["chosen_labels"], inputs["rejected_labels"], spans, by_token)
        losses = token_losses(outputs, inputs["chosen_labels"] + inputs["rejected_labels"])
        chosen, rejected, _ = self.dpo_criterion.dpo_logps(losses, *labels)
        lengths = (spans[:, 2] - spans[:, 1]).astype("float32")
        return chosen, rejected, chosen * lengths if by_token else chosen

    def _collect(self, into: Collected, inputs, chosen, rejected, reference, chosen_sums):
        into.add(
            chosen=chosen,
            rejected=rejected,
            reference_chosen=reference[0],
            reference_rejected=reference[1],
            chosen_sums=chosen_sums,
            chosen_tokens=self.count_terms(inputs)[1],
        )


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    options, notes = arguments.options, arguments.notes
    if options.loss_type == "orpo":
        options.loss_type, options.reference_free, options.sft_loss_ratio = "or", True, 1.0
        notes.append("loss_type orpo is 'or' with reference_free = true and sft_loss_ratio = 1")
    if options.loss_type in REFERENCE_FREE_ONLY and not options.reference_free:
        if "reference_free" in values:
            raise ConfigError(f"loss_type = {options.loss_type!r} has no reference; set reference_free to true")
        options.reference_free = True
        notes.append(f"reference_free is switched on: loss_type {options.loss_type} has no reference")
    if options.reference_free and options.loss_type in REFERENCE_ONLY:
        raise ConfigError(
            f"loss_type = {options.loss_type!r} needs a reference; reference_free goes with "
            f"{', '.join((*REFERENCE_OR_FREE, *REFERENCE_FREE_ONLY))}"
        )
    if options.label_smoothing and options.loss_type not in ("sigmoid", "simpo"):
        raise ConfigError(f"label_smoothing has no effect with loss_type = {options.loss_type!r}, only sigmoid, simpo")
    if options.loss_type == "kto_pair" and options.loss_average != PADDLENLP_AVERAGE:
        notes.append("loss_type kto_pair estimates its reference point within each micro-batch, as in PaddleNLP")
    if options.ref_model_update_steps > 0:
        raise UnsupportedConfigError(
            f"ref_model_update_steps = {options.ref_model_update_steps} is not supported in this release: PaddleNLP "
            "counts micro-batches there, and a resumed run would have another reference"
        )
    settle_options(arguments, values, has_reference=not options.reference_free)


def _tokens(prompt: list[int], answers: list[list[int]], row: PreferenceRow) -> TokenRow:
    return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}


def _adapt_batch(batch: Batch) -> Batch:
    batch = with_paddlenlp_names(batch)
    if in_trees(batch):
        return batch
    indices, labels = batch["response_indexs"], batch.pop("labels")
    batch["chosen_labels"] = labels_within(labels, indices[:, [0, 1, 2]])
    batch["rejected_labels"] = labels_within(labels, indices[:, [0, 2, 3]])
    return batch


def _trainer(arguments: Arguments, model: Any, **kwargs: Any) -> PackedDPOTrainer:
    options = arguments.options
    return PackedDPOTrainer(
        dpo_config=options, loss_average=options.loss_average, **model_and_reference(arguments, model), **kwargs
    )


FORM = AnswerForm(
    read=functools.partial(ranked_row, counts=range(2, 3), expected="two answers for DPO"),
    tokens=_tokens,
)
DPO = preference_task(
    "dpo",
    DPOOptions,
    FORM,
    choices={"loss_type": (*LOSSES, "orpo")},
    figures=("loss", "sft_loss", *(f"{name}_loss" for name in LOSSES), *ODDS, *REWARDS, "rewards/accuracies"),
    own_keys=(
        "simpo_gamma",
        "label_smoothing",
        "pref_loss_ratio",
        "sft_loss_ratio",
        "dpop_lambda",
        "ref_model_update_steps",
        "reference_free",
    ),
    settle=_settle,
    pack=pack_preference,
    stream=functools.partial(stream_answers, "preference"),
    collator_class=PreferenceCollator,
    adapt_batch=_adapt_batch,
    labels=functools.partial(labels_of_answers, "chosen_labels", "rejected_labels"),
    trainer=_trainer,
)
