"""Training of reward models on ranked answers."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddlenlp.trainer import Trainer

from .processes import joined
from .trainer import PackedOrder


def ranked_pairs(questions: paddle.Tensor) -> paddle.Tensor:
    """bool [A, A]: whether i is a better answer than j to the same question. Answers stand best first."""
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
    """Negative log-likelihood of the order under the Plackett-Luce model, mean over questions. With two answers it is
    the pairwise loss. Arguments as for `pairwise_loss`."""
    from_here = (questions.unsqueeze(1) == questions.unsqueeze(0)) & _upper(questions.shape[0], strict=False)
    remaining = paddle.where(from_here, scores.unsqueeze(0), paddle.full([1], float("-inf")))
    return (paddle.logsumexp(remaining, axis=1) - scores).sum() / (questions.max() + 1).astype("float32")


LOSSES = {"pairwise": pairwise_loss, "listwise": listwise_loss}


class PackedRewardTrainer(PackedOrder, Trainer):
    """Logs `accuracy`, the share of ranked pairs whose better answer scores higher, and `margin`, the mean difference
    of their scores, over all pairs since the last log; with the prefix `eval_` over the evaluation data."""

    def __init__(self, loss_type: str, **kwargs):
        super().__init__(**kwargs)
        self._loss = LOSSES[loss_type]
        self._pairs = {"": [], "eval_": []}  # differences of scores, one array per batch

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
