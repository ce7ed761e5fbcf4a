"""Reward models on ranked answers: the task that PaddleNLP calls `rm`."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddlenlp.trainer import Trainer

from paddle_flashmask.packing import RewardCollator, pack_reward, stream_answers

from ..averages import Collected, StepAverages
from ..config.arguments import Arguments
from ..config.preference import PreferenceOptions, settle_options
from ..data.packs import with_paddlenlp_names
from ..data.preferences import AnswerForm, PreferenceRow, TokenRow, ranked_row
from ..lora import with_lora
from ..processes import joined
from ..reward_model import SCORE_HEAD, reward_model_class
from ..trainer import PackedOrder
from .preference import preference_task


@dataclass
class RewardOptions(PreferenceOptions):
    """loss_type: "pairwise" or "listwise"; see the functions of LOSSES. The two agree for two answers."""

    loss_type: str = "pairwise"


def ranked_pairs(questions: paddle.Tensor) -> paddle.Tensor:
    """bool [A, A]: whether answer i is better than answer j to the same question.

    questions: int64 [A], the question of each answer. The answers to a question are in order, best first.
    """
    return (questions.unsqueeze(1) == questions.unsqueeze(0)) & _upper(questions.shape[0], strict=True)


def pairwise_loss(scores: paddle.Tensor, questions: paddle.Tensor) -> paddle.Tensor:
    """-log sigmoid(better - worse), mean over the pairs of a question, then over questions (arXiv 2203.02155, eq. 1).

    scores: float32 [A], best first within a question. questions: int64 [A], 0, 1, ... in contiguous runs.
    """
    pairs = ranked_pairs(questions).astype("float32")
    count = paddle.bincount(questions).astype("float32")
    weights = pairs / (count * (count - 1) / 2)[questions].unsqueeze(1)
    losses = -F.log_sigmoid(scores.unsqueeze(1) - scores.unsqueeze(0))
    return (losses * weights).sum() / count.shape[0]


def listwise_loss(scores: paddle.Tensor, questions: paddle.Tensor) -> paddle.Tensor:
    """Negative log-likelihood of the order under the Plackett-Luce model, mean over questions.

    It equals the pairwise loss for two answers. Arguments are those of `pairwise_loss`.
    """
    from_here = (questions.unsqueeze(1) == questions.unsqueeze(0)) & _upper(questions.shape[0], strict=False)
    remaining = paddle.where(from_here, scores.unsqueeze(0), paddle.full([1], float("-inf")))
    return (paddle.logsumexp(remaining, axis=1) - scores).sum() / (questions.max() + 1).astype("float32")


LOSSES = {"pairwise": pairwise_loss, "listwise": listwise_loss}


class PackedRewardTrainer(StepAverages, PackedOrder, Trainer):
    """Logs `accuracy` and `margin` over all ranked pairs since the last log, and with `eval_` over the evaluation data.

    accuracy: share of the pairs whose better answer scores higher. margin: mean difference of their scores.
    """

    def __init__(self, loss_type: str, **kwargs: Any):
        super().__init__(**kwargs)
        self._loss = LOSSES[loss_type]
        self._pairs = {"": [], "eval_": []}  # differences of scores, an array per batch

    def count_terms(self, inputs):
        """Questions."""
        return [int(inputs["answer_places"][:, 2].max()) + 1]

    def weighted_loss(self, model, inputs, weights):
        return self.compute_loss(model, inputs) * weights[0]

    def collect_evaluation(self, model, inputs, collected: Collected):
        (questions,) = self.count_terms(inputs)
        collected.add(loss=float(self._score(model, inputs, "eval_")) * questions, questions=questions)

    def evaluation_figures(self, values):
        return {"loss": values["loss"].sum() / max(values["questions"].sum(), 1)}

    def compute_loss(self, model, inputs, return_outputs=False):
        return self._score(model, inputs, "")

    def prediction_step(self, model, inputs, prediction_loss_only=False, ignore_keys=None):
        with paddle.no_grad(), self.autocast_smart_context_manager():
            loss = self._score(model, self._prepare_inputs(inputs), "eval_")
        return loss.detach(), None, None

    def _score(self, model, inputs, prefix: str) -> paddle.Tensor:
        scores = model(**inputs)
        questions = inputs["answer_places"][:, 2]
        better, worse = ranked_pairs(questions).nonzero(as_tuple=True)
        differences = scores.detach()[better.flatten()] - scores.detach()[worse.flatten()]
        self._pairs[prefix].append(differences.numpy())
        return self._loss(scores, questions)

    def log(self, logs, **kwargs):
        for prefix in ("", "eval_"):
            if f"{prefix}loss" in logs and self._pairs[prefix]:
                differences = joined(np.concatenate(self._pairs[prefix]))
                logs[f"{prefix}accuracy"] = float((differences > 0).mean())
                logs[f"{prefix}margin"] = float(differences.mean(dtype=np.float64))
                self._pairs[prefix] = []
        return super().log(logs, **kwargs)


def _upper(size: int, strict: bool) -> paddle.Tensor:
    places = paddle.arange(size)
    rows, columns = places.unsqueeze(1), places.unsqueeze(0)
    return rows < columns if strict else rows <= columns


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    settle_options(arguments, values, has_reference=False)


def _tokens(prompt: list[int], answers: list[list[int]], row: PreferenceRow) -> TokenRow:
    return {"prompt": prompt, "answers": answers}


def _trainer(arguments: Arguments, model: Any, **kwargs: Any) -> PackedRewardTrainer:
    if arguments.model.lora:
        model = with_lora(model, arguments, trained_whole=[SCORE_HEAD])
    options = arguments.options
    return PackedRewardTrainer(model=model, loss_type=options.loss_type, loss_average=options.loss_average, **kwargs)


FORM = AnswerForm(
    read=functools.partial(ranked_row, counts=range(2, sys.maxsize), expected="two answers or more for a reward model"),
    tokens=_tokens,
    unread=("margin",),  # TRL subtracts it from the difference of the scores
)
REWARD = preference_task(
    "rm",
    RewardOptions,
    FORM,
    choices={"loss_type": tuple(LOSSES)},
    figures=("loss", "accuracy", "margin"),
    settle=_settle,
    pack=pack_reward,
    stream=functools.partial(stream_answers, "reward"),
    collator_class=RewardCollator,
    adapt_batch=with_paddlenlp_names,
    labels=lambda batch: None,
    model_class=reward_model_class,
    trainer=_trainer,
)
