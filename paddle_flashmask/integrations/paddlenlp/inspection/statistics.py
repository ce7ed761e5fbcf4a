"""Counts over all packs of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_flashmask.packing import IGNORED_LABEL, AnswerPack, TreeLayout


@dataclass(frozen=True)
class DataStatistics:
    """packs, tokens: of all documents, without padding. lengths: int [documents], tokens of each.

    learned: tokens that the loss predicts, or for reward models answers that are scored.
    """

    packs: int
    tokens: int
    lengths: np.ndarray
    learned: int


def count(packs: Iterable[Any]) -> DataStatistics:
    """Read every pack once."""
    number = learned = 0
    lengths = [np.zeros(0, dtype=np.int32)]
    for pack in packs:
        number += 1
        lengths.append(pack.document_lengths)
        learned += _learned(pack)
    joined = np.concatenate(lengths)
    return DataStatistics(number, int(joined.sum()), joined, learned)


def _learned(pack: Any) -> int:
    if isinstance(pack, TreeLayout):
        return int(pack.learned.sum())
    if not isinstance(pack, AnswerPack):
        return int((pack.labels != IGNORED_LABEL).sum())
    if (pack.labels == IGNORED_LABEL).all():
        return len(pack.answers)
    answers = pack.answers if pack.desirable is None else pack.answers[::2]  # the second of KTO is for its reference
    return int((answers[:, 2] - answers[:, 1]).sum())
