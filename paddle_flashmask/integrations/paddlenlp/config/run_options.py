"""Keys of this package that every task has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .tokenization import TokenizationKeys


@dataclass
class RunOptions(TokenizationKeys):
    """Keys on the end of a run, and those on tokens. PaddleNLP's parser reads no other spelling of Optional.

    early_stopping_patience: evaluations in a row without improvement of metric_for_best_model that end training; None
    means that nothing does. early_stopping_threshold: how much better than the best one before an evaluation must be.
    """

    early_stopping_patience: Optional[int] = None  # noqa: UP045
    early_stopping_threshold: float = 0.0
