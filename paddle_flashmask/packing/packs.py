"""One packed sequence, and the account of how a data set was packed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

IGNORED_LABEL = -100


@dataclass(frozen=True)
class Pack:
    """Documents laid end to end. T is the number of tokens, without padding.

    input_ids, labels, position_ids: int64 [T]; position_ids restart at 0 in every document.
    document_lengths: int32 [number of documents], sums to T.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    document_lengths: np.ndarray

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    @property
    def key_ends(self) -> np.ndarray:
        """int32 [T]: for every token, the position after the last token of its document (the causal-document LTS)."""
        return np.repeat(np.cumsum(self.document_lengths, dtype=np.int32), self.document_lengths)

    @property
    def visible_pairs(self) -> int:
        """Query-key pairs that attend to each other: the sum of n (n + 1) / 2 over the documents."""
        lengths = self.document_lengths.astype(np.int64)
        return int((lengths * (lengths + 1) // 2).sum())


class PackLike(Protocol):
    """What the report and the collators read of a pack, whatever its documents are."""

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    document_lengths: np.ndarray
    key_ends: np.ndarray
    visible_pairs: int

    def __len__(self) -> int: ...


@dataclass
class PackingReport:
    """What happened to the rows. Every row is packed or dropped; every token is packed, cut off or in a dropped row."""

    max_length: int
    rows: int = 0
    packed_rows: int = 0
    dropped_rows: int = 0
    truncated_rows: int = 0
    truncated_tokens: int = 0
    packs: int = 0
    tokens: int = 0
    visible_pairs: int = 0

    @property
    def capacity(self) -> int:
        """Tokens that the packs could hold."""
        return self.packs * self.max_length

    @property
    def efficiency(self) -> float:
        """Packed tokens / capacity, 0 where nothing was packed."""
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
            f"{self.packed_rows} of {self.rows} rows in {self.packs} packs of {self.max_length}: {self.tokens} tokens, "
            f"efficiency {self.efficiency:.1%}, {self.documents_per_pack:.1f} documents per pack, "
            f"mask density {self.mask_density:.1%}"
        )
        if self.truncated_rows:
            text += f"; {self.truncated_rows} rows cut by {self.truncated_tokens} tokens in all"
        if self.dropped_rows:
            text += f"; {self.dropped_rows} rows dropped, longer than {self.max_length}"
        return text
