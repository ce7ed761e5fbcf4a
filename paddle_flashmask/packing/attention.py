"""What the tokens of one document see of each other, and the columns that say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IGNORED_LABEL = -100
KINDS = ("causal_document", "document", "prefix_lm_document", "sliding_window")


@dataclass(frozen=True)
class DocumentAttention:
    """Attention within the documents of a pack; no document sees another (arXiv 2410.01359, figure 1, masks 2-4 and 7).

    kind: "causal_document"; "document", in both directions; "prefix_lm_document", in both directions within the prefix
        of each document and causal after it; "sliding_window", causal over the last `window` tokens of the document.
    window: tokens that a token of "sliding_window" sees, itself included; None for the others.

    Raises ValueError for another kind, and for a window that does not go with it.
    """

    kind: str = "causal_document"
    window: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if (self.kind == "sliding_window") != (self.window is not None):
            raise ValueError(f"sliding_window, and only it, has a window; got {self.kind!r} and {self.window!r}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1; got {self.window}")

    @property
    def causal(self) -> bool:
        """Whether the columns are those of a causal mask: one bound, LTS. Otherwise they are two, LTS and UTE."""
        return self.kind in ("causal_document", "sliding_window")

    def columns(self, lengths: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """int32 [T, 1 or 2], `startend_row_indices` of a pack that begins at row 0.

        lengths: int32 [number of documents], tokens of every document. labels: int64 [T], which say where prefixes end.
        """
        ends = np.cumsum(lengths, dtype=np.int32)
        end, start = np.repeat(ends, lengths), np.repeat(ends - lengths, lengths)
        row = np.arange(len(end), dtype=np.int32)
        if self.kind == "causal_document":
            return end[:, None]
        if self.kind == "sliding_window":
            return np.minimum(end, row + self.window)[:, None].astype(np.int32)
        if self.kind == "document":
            return np.stack([end, start], axis=1)
        in_prefix = row < start + np.repeat(prefix_lengths(labels, lengths), lengths)
        return np.stack([end, np.where(in_prefix, start, row)], axis=1).astype(np.int32)


def prefix_lengths(labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int32 [number of documents]: the tokens before the first one that is to be predicted; all of a document's where
    none is. labels: shifted, so the token that predicts the first one belongs to the prefix."""
    prefixes = []
    for part in np.split(labels, np.cumsum(lengths)[:-1]):
        scored = np.flatnonzero(part != IGNORED_LABEL)
        prefixes.append(scored[0] + 1 if len(scored) else len(part))
    return np.array(prefixes, dtype=np.int32)
