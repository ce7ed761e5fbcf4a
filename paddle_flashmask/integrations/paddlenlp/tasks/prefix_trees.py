"""What prefix trees need of a model, and the log-probabilities of the answers that they hold."""

from __future__ import annotations

from typing import Any

import paddle

from ..errors import UnsupportedConfigError
from ..token_loss import LabelLogProbabilities, logits_of


def check_model_of_trees(config: Any) -> None:
    """Raise UnsupportedConfigError for a model whose losses are not those of a prefix tree's sequences alone."""
    if any(getattr(config, key, None) for key in ("num_experts", "n_routed_experts", "num_local_experts")):
        raise UnsupportedConfigError(
            "share_prefixes = true does not support mixture-of-experts models: their balance losses and capacities "
            "would count a shared token once"
        )
    if getattr(config, "num_nextn_predict_layers", 0):
        raise UnsupportedConfigError("share_prefixes = true does not support multi-token prediction")


def in_trees(inputs: dict[str, Any]) -> bool:
    """Whether a batch of preference data has prefix trees."""
    return "label_places" in inputs


def answer_log_probabilities(outputs: Any, inputs: dict[str, paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Sums of the log-probabilities of each answer, float32 [A], and their numbers of tokens, float32 [A].

    outputs: of a language model. inputs: a batch of `PreferenceCollator` or `KTOCollator` with prefix trees.
    """
    places = inputs["label_places"]
    found = LabelLogProbabilities()(logits_of(outputs), inputs["labels"], places)
    answers = places[:, 2]
    return paddle.geometric.segment_sum(found, answers), paddle.bincount(answers).astype("float32")
