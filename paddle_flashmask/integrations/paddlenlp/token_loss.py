"""Cross-entropy of a language model over its labelled tokens."""

from __future__ import annotations

from typing import Any

import paddle

IGNORED = -100


class TokenLoss(paddle.nn.Layer):
    """-log probability of every label, in float32. NaN in the logits stays NaN; Paddle's CPU kernel makes it finite."""

    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """logits: [..., V]. labels: int64 [..., 1], each in 0..V-1. Returns float32 [..., 1]."""
        logits = logits.astype("float32")
        chosen = paddle.take_along_axis(logits, labels, axis=-1)
        return paddle.logsumexp(logits, axis=-1, keepdim=True) - chosen


class TokenMean(paddle.nn.Layer):
    """Mean of the token losses over the labels other than -100; 0 where there are none.

    PaddleNLP's criteria divide by the number of tokens whose loss is above 0, which leaves out tokens that the model is
    certain of, and NaN.
    """

    def __init__(self):
        super().__init__()
        self.token_loss = TokenLoss()

    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor, mtp_logits: None = None) -> paddle.Tensor:
        """logits: [B, S, V]. labels: int64 [B, S]. mtp_logits: DeepSeek passes None here. Returns float32 []."""
        logits, labels = labelled(logits, labels)
        with paddle.amp.auto_cast(False):
            return self.token_loss(logits, labels.unsqueeze(-1)).sum() / max(labels.shape[0], 1)


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
        """logits: [B, S, V]. labels: int64 [B, S]. places: int64 [N, 3], (batch row, place of a label, ...).

        Returns float32 [N].
        """
        found, tokens = labelled(logits, labels)
        with paddle.amp.auto_cast(False):
            losses = self.token_loss(found, tokens.unsqueeze(-1)).squeeze(-1)
        number = (labels.flatten() != IGNORED).astype("int64").cumsum() - 1  # of each place among the labelled ones
        row, place, _ = places.unbind(axis=1)
        return -losses.index_select(number.index_select(row * labels.shape[1] + place))


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
        """logits: [B, S, V]. labels, counts: int64 [B, S]. weights: float32 [B, S]. Returns float32 []."""
        places = (labels.flatten() != IGNORED).nonzero().flatten()
        logits, labels = labelled(logits, labels)
        with paddle.amp.auto_cast(False):
            losses = self.token_loss(logits, labels.unsqueeze(-1)).squeeze(-1)
            return (losses * weights.flatten().index_select(places)).sum() / max(int(counts.sum()), 1)


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
