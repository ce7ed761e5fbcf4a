"""One packed sequence, and the statistics of a packed data set."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from .attention import DocumentAttention
from .counted import counted


@dataclass(frozen=True)
class Pack:
    """Documents end to end; T is the number of tokens without padding.

    Attributes:
        input_ids: int64 [T].
        labels: int64 [T].
        position_ids: int64 [T]; they restart at 0 in every document.
        document_lengths: int32 [number of documents], with sum T.
        attention: the attention within each document. The prefix of a document ends at its first label.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    document_lengths: np.ndarray
    attention: DocumentAttention = DocumentAttention()

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    @property
    def causal(self) -> bool:
        return self.attention.causal

    @functools.cached_property
    def columns(self) -> np.ndarray:
        return self.attention.columns(self.document_lengths, self.labels)

    @property
    def visible_pairs(self) -> int:
        return visible_pairs(self)


class PackLike(Protocol):
    """The part of a pack that the report and the collators read.

    columns: int32 [T, 1], LTS, if `causal`; else int32 [T, 2], LTS and UTE. Key k is hidden from rows >= LTS and from
        rows < UTE.
    visible_pairs: number of visible query-key pairs.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    document_lengths: np.ndarray
    causal: bool
    columns: np.ndarray
    visible_pairs: int

    def __len__(self) -> int: ...


def visible_pairs(pack: PackLike) -> int:
    """Count the visible query-key pairs of a pack."""
    first = np.arange(len(pack)) if pack.causal else pack.columns[:, 1]
    return int((pack.columns[:, 0].astype(np.int64) - first).sum())


@dataclass
class PackingReport:
    """Counts of rows and tokens. Every row is packed or dropped.

    Attributes:
        dropped_rows: rows that are too long, or of `equal_answer_rows`.
        truncated_rows: rows that were cut.
        truncated_tokens: tokens that they lost by it.
        equal_answer_rows: rows whose answers are all the same.
        equal_answers: answers left out of packed rows, because a better one is the same.
    """

    max_length: int
    rows: int = 0
    packed_rows: int = 0
    dropped_rows: int = 0
    truncated_rows: int = 0
    truncated_tokens: int = 0
    equal_answer_rows: int = 0
    equal_answers: int = 0
    packs: int = 0
    tokens: int = 0
    visible_pairs: int = 0

    @property
    def capacity(self) -> int:
        """Most tokens that the packs can hold."""
        return self.packs * self.max_length

    @property
    def efficiency(self) -> float:
        """Packed tokens / capacity; 0 if nothing was packed."""
        return self.tokens / self.capacity if self.packs else 0.0

    @property
    def documents_per_pack(self) -> float:
        return self.packed_rows / self.packs if self.packs else 0.0

    @property
    def mask_density(self) -> float:
        """Visible query-key pairs / (packs * max_length^2)."""
        return self.visible_pairs / (self.packs * self.max_length**2) if self.packs else 0.0

    def count_pack(self, pack: PackLike) -> None:
        self.packs += 1
        self.packed_rows += len(pack.document_lengths)
        self.tokens += len(pack)
        self.visible_pairs += pack.visible_pairs

    @property
    def lost(self) -> list[str]:
        """What was cut, dropped or left out, in words."""
        found = []
        if self.truncated_rows:
            found.append(f"{counted(self.truncated_rows, 'row')} cut by {self.truncated_tokens} tokens in all")
        if longer := self.dropped_rows - self.equal_answer_rows:
            found.append(f"{counted(longer, 'row')} dropped, longer than {self.max_length}")
        if self.equal_answer_rows:
            found.append(f"{counted(self.equal_answer_rows, 'row')} dropped, whose answers are the same")
        if self.equal_answers:
            found.append(f"{counted(self.equal_answers, 'answer')} left out, the same as a better one")
        return found

    def to_dict(self) -> dict[str, int | float]:
        return {
            **asdict(self),
            "capacity": self.capacity,
            "efficiency": self.efficiency,
            "documents_per_pack": self.documents_per_pack,
            "mask_density": self.mask_density,
        }

    def __str__(self) -> str:
        text = (
            f"{self.packed_rows} of {counted(self.rows, 'row')} in {counted(self.packs, 'pack')} of {self.max_length}: "
            f"{self.tokens} tokens, efficiency {self.efficiency:.1%}, {self.documents_per_pack:.1f} documents per "
            f"pack, mask density {self.mask_density:.1%}"
        )
        return "; ".join([text, *self.lost])
