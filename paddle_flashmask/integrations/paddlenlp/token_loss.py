"""Cross-entropy of a language model over its labelled tokens.

Labels are those of whole sequences, N tokens. Logits are those of the S tokens that this process holds: all of them
without context parallelism.
"""

from __future__ import annotations

from typing import Any

import paddle

from .context_parallel import sequences

IGNORED = -100


class TokenLoss(paddle.nn.Layer):
    """-log probability of every label, in float32. NaN in the logits stays NaN; Paddle's CPU kernel makes it finite."""

    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """logits: [..., V]. labels: int64 [..., 1], each in 0..V-1. Returns float32 [..., 1]."""
        logits = logits.astype("float32")
        chosen = paddle.take_along_axis(logits, labels, axis=-1)
        return paddle.logsumexp(logits, axis=-1, keepdim=True) - chosen


class GivenLosses(paddle.nn.Layer):
    """In the place of `TokenLoss` in PaddleNLP's criteria, for token losses [B, N, 1] in the place of logits."""

    def forward(self, losses: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return losses


def token_losses(outputs: Any, labels: paddle.Tensor) -> paddle.Tensor:
    """The losses of all labels, float32 [B, N, 1], from the outputs of a language model and labels, int64 [B, N]."""
    logits, labels = logits_of(outputs), sequences.own(labels)
    return sequences.whole(TokenLoss()(logits, labels.unsqueeze(-1)))


class TokenMean(paddle.nn.Layer):
    """Mean of the token losses over the labels other than -100; 0 where there are none.

    PaddleNLP's criteria divide by the number of tokens whose loss is above 0, which leaves out tokens that the model is
    certain of, and NaN.
    """

    def __init__(self):
        super().__init__()
        self.token_loss = TokenLoss()

    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor, mtp_logits: None = None) -> paddle.Tensor:
        """logits: [B, S, V]. labels: int64 [B, N]. mtp_logits: DeepSeek passes None here. Returns float32 []."""
        tokens = int((labels != IGNORED).sum())
        logits, labels = labelled(logits, sequences.own(labels))
        with paddle.amp.auto_cast(False):
            return sequences.total(self.token_loss(logits, labels.unsqueeze(-1)).sum()) / max(tokens, 1)


def labelled(logits: paddle.Tensor, labels: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Logits [T, V] and labels [T] of the T labelled tokens."""
    places = (labels.flatten() != IGNORED).nonzero().flatten()
    return logits.reshape([-1, logits.shape[-1]]).index_select(places), labels.flatten().index_select(places)


class LabelLogProbabilities(paddle.nn.Layer):
    """Log-probabilities of labels of prefix trees, which several sequences may share."""

    def __init__(self):
        super().__init__()
        self.token_loss = TokenLoss()

    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor, places: paddle.Tensor) -> paddle.Tensor:
        """logits: [B, S, V]. labels: int64 [B, N]. places: int64 [A, 3], (batch row, place of a label, ...).

        Returns float32 [A].
        """
        held = sequences.own(labels)
        found, tokens = labelled(logits, held)
        with paddle.amp.auto_cast(False):
            losses = self.token_loss(found, tokens.unsqueeze(-1)).squeeze(-1)
        is_label = (held.flatten() != IGNORED).astype("int64")
        number = is_label.cumsum() * is_label  # of each place among the labelled ones, from 1; 0 elsewhere
        losses = paddle.concat([paddle.zeros([1]), losses]).index_select(number).reshape(held.shape)
        return -sequences.whole(losses).gather_nd(places[:, :2])


class WeightedTokenMean(paddle.nn.Layer):
    """Sum of label weight * token loss over the labels other than -100, divided by the label counts; 0 of none.

    For packs of prefix trees, whose labels stand for several sequences.
    """

    def __init__(self):
        super().__init__()
        self.token_loss = TokenLoss()

    def forward(
        self, logits: paddle.Tensor, labels: paddle.Tensor, weights: paddle.Tensor, counts: paddle.Tensor
    ) -> paddle.Tensor:
        """logits: [B, S, V]. labels, counts: int64 [B, N]. weights: float32 [B, N]. Returns float32 []."""
        labels, weights = sequences.own(labels), sequences.own(weights)
        places = (labels.flatten() != IGNORED).nonzero().flatten()
        logits, labels = labelled(logits, labels)
        with paddle.amp.auto_cast(False):
            losses = self.token_loss(logits, labels.unsqueeze(-1)).squeeze(-1)
            share = (losses * weights.flatten().index_select(places)).sum()
            return sequences.total(share) / max(int(counts.sum()), 1)


def use_token_mean(model: Any) -> None:
    """Replace the criterion of a PaddleNLP language model, also inside adapters.

    Multi-token prediction keeps its own criterion, which takes the logits of every depth.
    """
    for layer in model.sublayers(include_self=True):
        criterion = getattr(layer, "criterion", None)
        if isinstance(criterion, paddle.nn.Layer) and not getattr(layer.config, "num_nextn_predict_layers", 0):
            layer.criterion = TokenMean()


def logits_of(outputs: Any) -> paddle.Tensor:
    """The logits, [B, S, V], among the outputs of a PaddleNLP language model that was given no labels."""
    if isinstance(outputs, paddle.Tensor):
        return outputs
    if isinstance(outputs, dict):
        return outputs["logits"]
    return next(output for output in outputs if output is not None and output.ndim == 3)
