"""Kahneman-Tversky optimization (arXiv 2402.01306)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddlenlp.trl import KTOCriterion, KTOTrainer

from paddle_flashmask.packing import KTOCollator, pack_kto, stream_answers, with_kl_answers

from ..averages import Collected, mean
from ..config.arguments import Arguments
from ..config.preference import PreferenceOptions, settle_options
from ..data.keys import check_one_form
from ..data.lines import need
from ..data.messages import context_of
from ..data.packs import Batch, labels_within, with_paddlenlp_names
from ..data.preferences import (
    AnswerForm,
    PreferenceRow,
    TokenRow,
    answer_of,
    checked,
    paddlenlp_answers,
    prompt_of,
)
from ..errors import DataError
from ..processes import joined
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


@dataclass
class KTOOptions(PreferenceOptions):
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


class KTOLoss(KTOCriterion):
    """PaddleNLP's criterion with the reference point of the paper, max(0, KL) (section 4.1).

    PaddleNLP omits the 0 on one process and has it on several. `reference_point` replaces the estimate from the answers
    of one micro-batch, if it is set.
    """

    reference_point: float | None = None

    def kto_loss(
        self,
        policy_chosen_logps,
        policy_rejected_logps,
        policy_kl_logps,
        reference_chosen_logps,
        reference_rejected_logps,
        reference_kl_logps,
    ):
        options = self.kto_config
        if self.reference_point is None:
            kl = (policy_kl_logps - reference_kl_logps).mean().detach().clip(min=0.0)
        else:
            kl = paddle.to_tensor(self.reference_point, dtype="float32")
        losses = []
        if policy_chosen_logps.shape[0]:
            reward = policy_chosen_logps - reference_chosen_logps
            losses.append(options.desirable_weight * (1 - F.sigmoid(options.beta * (reward - kl))))
        if policy_rejected_logps.shape[0]:
            reward = policy_rejected_logps - reference_rejected_logps
            losses.append(options.undesirable_weight * (1 - F.sigmoid(options.beta * (kl - reward))))
        return paddle.concat(losses).mean(), kl


_PARTS = ("chosen", "rejected", "kl")


class PackedKTOTrainer(PreferenceTrainer, KTOTrainer):
    def __init__(self, model, kto_config, **kwargs):
        criterion = KTOLoss(model.config, kto_config=kto_config)
        super().__init__(model=model, kto_config=kto_config, kto_criterion=criterion, **kwargs)
        criterion.logprobs = TokenLoss() if self._paddlenlp_average else GivenLosses()

    def count_terms(self, inputs):
        return [inputs["desirable" if in_trees(inputs) else "response_indexs"].shape[0]]

    def begin_step(self, model, micro_batches):
        """Estimate the reference point from all answers of the step, in a forward pass unless they are one batch."""
        self.kto_criterion.reference_point = None
        if len(micro_batches) == 1 and self.args.dataset_world_size == 1:
            return
        with paddle.no_grad():
            differences = []
            for inputs in micro_batches:
                policy, reference = self._logps(model, inputs)
                differences.append((policy[2] - reference[2]).numpy())
        self.kto_criterion.reference_point = max(0.0, mean(joined(np.concatenate(differences))))

    def weighted_loss(self, model, inputs, weights):
        policy, reference = self._logps(model, inputs)
        loss, _ = self.kto_criterion.kto_loss(*policy, *reference)
        self._collect(self._trained, policy, reference)
        return loss * weights[0]

    def collect_evaluation(self, model, inputs, collected: Collected):
        self._collect(collected, *self._logps(model, inputs))

    def evaluation_figures(self, values):
        beta = self.kto_config.beta
        chosen, rejected = (values[name] - values[f"reference_{name}"] for name in ("chosen", "rejected"))
        self.kto_criterion.reference_point = None
        names = (*_PARTS, *(f"reference_{name}" for name in _PARTS))
        loss, kl = self.kto_criterion.kto_loss(*(paddle.to_tensor(values[name]) for name in names))
        return {
            "count/chosen": len(chosen),
            "count/rejected": len(rejected),
            "rewards/chosen": beta * mean(chosen),
            "rewards/rejected": beta * mean(rejected),
            "rewards/margins": beta * (mean(chosen) - mean(rejected)),
            "logps/chosen": mean(values["chosen"]),
            "logps/rejected": mean(values["rejected"]),
            "kl": float(kl),
            "loss": float(loss),
        }

    def _logps(self, model, inputs):
        """(policy, reference), each the log-probabilities of the wanted, the unwanted and the KL answers, float32."""
        given = model_inputs(inputs)
        with paddle.no_grad():
            reference = self._answer_logps(self.reference_logits(model, given), inputs)
        return self._answer_logps(model(**given), inputs), reference

    def _answer_logps(self, outputs, inputs):
        """(wanted, unwanted, KL answers) from the outputs of a model."""
        if in_trees(inputs):
            sums, _ = answer_log_probabilities(outputs, inputs)
            own, wanted = sums[0::2], inputs["desirable"] == 1
            return own.masked_select(wanted), own.masked_select(~wanted), sums[1::2]
        labels = (inputs["response_labels"], inputs["response_kl_labels"], inputs["response_indexs"])
        losses = token_losses(outputs, inputs["response_labels"] + inputs["response_kl_labels"])
        return self.kto_criterion.kto_logps(losses, *labels)

    def _collect(self, into: Collected, policy, reference):
        for prefix, parts in (("", policy), ("reference_", reference)):
            into.add(**{f"{prefix}{name}": part for name, part in zip(_PARTS, parts, strict=True)})


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    settle_options(arguments, values, has_reference=True)


def _read(row: dict[str, Any], place: str) -> PreferenceRow:
    context = context_of(row, place)
    if "src" in row:
        prompt, answers, sort = paddlenlp_answers(row, place, range(1, 2), "one answer for KTO")
        if sort[0] not in (0, 1):
            raise DataError(f"{place}: 'sort' must be [1] (wanted) or [0] (not wanted) for KTO; got {sort!r}")
        return checked(PreferenceRow(prompt, answers, place, bool(sort[0]), context))
    answer_key = "completion"
    if "completion" not in row and "prompt" not in row and isinstance(row.get("messages"), list):
        answer_key = "messages"
        row = {**row, "messages": row["messages"][:-1], "completion": row["messages"][-1:]}
    key = "prompt" if "prompt" in row else "messages"
    need(row, key, place)
    answer = answer_of(need(row, "completion", place), answer_key, place)
    prompt = prompt_of(row, key, ("completion",), place)
    return checked(PreferenceRow(prompt, [answer], place, _is_wanted(row, place), context))


def _is_wanted(row: dict[str, Any], place: str) -> bool:
    """The label of a row: `label` in TRL's data sets, `kto_tag` in LLaMA-Factory's."""
    check_one_form(row, ("label",), ("kto_tag",), place)
    key = "kto_tag" if "kto_tag" in row else "label"
    label = need(row, key, place)
    if label not in (True, False, 0, 1):
        raise DataError(f"{place}: {key!r} must be true or false; got {label!r:.80}")
    return bool(label)


def _tokens(prompt: list[int], answers: list[list[int]], row: PreferenceRow) -> TokenRow:
    return {"prompt": prompt, "answer": answers[0], "desirable": row.desirable}


def _adapt_batch(batch: Batch) -> Batch:
    batch = with_paddlenlp_names(batch)
    if in_trees(batch):
        return batch
    indices, labels = batch["response_indexs"], batch.pop("labels")
    batch["response_labels"] = labels_within(labels, indices[:, [0, 1, 2]])
    batch["response_kl_labels"] = labels_within(labels, indices[:, [0, 2, 3]])
    return batch


def _trainer(arguments: Arguments, model: Any, **kwargs: Any) -> PackedKTOTrainer:
    options = arguments.options
    return PackedKTOTrainer(
        kto_config=options, loss_average=options.loss_average, **model_and_reference(arguments, model), **kwargs
    )


FORM = AnswerForm(read=_read, tokens=_tokens, complete=with_kl_answers, answers=("completion",))
KTO = preference_task(
    "kto",
    KTOOptions,
    FORM,
    own_keys=("desirable_weight", "undesirable_weight"),
    figures=("loss", "kl", *REWARDS),
    settle=_settle,
    pack=pack_kto,
    stream=functools.partial(stream_answers, "kto"),
    collator_class=KTOCollator,
    adapt_batch=_adapt_batch,
    labels=functools.partial(labels_of_answers, "response_labels", "response_kl_labels"),
    trainer=_trainer,
)
