"""Kahneman-Tversky optimization (arXiv 2402.01306)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import paddle
import paddle.nn.functional as F
from paddlenlp.trl import KTOCriterion, KTOTrainer

from paddle_flashmask.packing import KTOCollator, pack_kto, stream_answers, with_kl_answers

from ..config.arguments import Arguments
from ..config.preference import LoRAOptions, settle_lora
from ..data.lines import need
from ..data.packs import Batch, labels_within, with_paddlenlp_names
from ..data.preferences import (
    AnswerForm,
    PreferenceRow,
    TokenRow,
    answer_of,
    conversation_of,
    paddlenlp_answers,
    without_empty_answers,
)
from ..errors import DataError
from .preference import PreferenceTrainer, model_and_reference, preference_task


@dataclass
class KTOOptions(LoRAOptions):
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


class KTOLoss(KTOCriterion):
    """PaddleNLP's criterion with the reference point of the paper, max(0, KL) (section 4.1).

    PaddleNLP omits the 0 on one process and has it on several.
    """

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
        kl = (policy_kl_logps - reference_kl_logps).mean().detach().clip(min=0.0)
        losses = []
        if policy_chosen_logps.shape[0]:
            reward = policy_chosen_logps - reference_chosen_logps
            losses.append(options.desirable_weight * (1 - F.sigmoid(options.beta * (reward - kl))))
        if policy_rejected_logps.shape[0]:
            reward = policy_rejected_logps - reference_rejected_logps
            losses.append(options.undesirable_weight * (1 - F.sigmoid(options.beta * (kl - reward))))
        return paddle.concat(losses).mean(), kl


class PackedKTOTrainer(PreferenceTrainer, KTOTrainer):
    def __init__(self, model, kto_config, **kwargs):
        criterion = KTOLoss(model.config, kto_config=kto_config)
        super().__init__(model=model, kto_config=kto_config, kto_criterion=criterion, **kwargs)


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    settle_lora(arguments, values, has_reference=True)


def _read(row: dict[str, Any], place: str) -> PreferenceRow:
    if "src" in row:
        rounds, question, answers, sort = paddlenlp_answers(row, place, range(1, 2), "one answer for KTO")
        if sort[0] not in (0, 1):
            raise DataError(f"{place}: 'sort' must be [1] (wanted) or [0] (not wanted) for KTO; got {sort!r}")
        return without_empty_answers(PreferenceRow(rounds, question, answers, place, bool(sort[0])))
    key = "prompt" if "prompt" in row else "messages"
    system, rounds, question = conversation_of(need(row, key, place), key, place)
    answer = answer_of(need(row, "completion", place), "completion", place)
    label = need(row, "label", place)
    if label not in (True, False, 0, 1):
        raise DataError(f"{place}: 'label' must be true or false; got {label!r:.80}")
    return without_empty_answers(PreferenceRow(rounds, question, [answer], place, bool(label), system))


def _tokens(prompt: list[int], answers: list[list[int]], row: PreferenceRow) -> TokenRow:
    return {"prompt": prompt, "answer": answers[0], "desirable": row.desirable}


def _adapt_batch(batch: Batch) -> Batch:
    batch = with_paddlenlp_names(batch)
    indices, labels = batch["response_indexs"], batch.pop("labels")
    batch["response_labels"] = labels_within(labels, indices[:, [0, 1, 2]])
    batch["response_kl_labels"] = labels_within(labels, indices[:, [0, 2, 3]])
    return batch


def _trainer(arguments: Arguments, model: Any, **kwargs: Any) -> PackedKTOTrainer:
    return PackedKTOTrainer(kto_config=arguments.options, **model_and_reference(arguments, model), **kwargs)


FORM = AnswerForm(read=_read, tokens=_tokens, complete=with_kl_answers)
KTO = preference_task(
    "kto",
    KTOOptions,
    FORM,
    own_keys=("desirable_weight", "undesirable_weight"),
    settle=_settle,
    pack=pack_kto,
    stream=functools.partial(stream_answers, "kto"),
    collator_class=KTOCollator,
    adapt_batch=_adapt_batch,
    trainer=_trainer,
)
