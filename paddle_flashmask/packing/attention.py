"""Attention within the documents of a pack, and the mask bounds that encode it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddle_flashmask.masks import _columns

IGNORED_LABEL = -100
KINDS = ("causal_document", "document", "prefix_lm_document", "sliding_window")


@dataclass(frozen=True)
class DocumentAttention:
    """Attention within the documents of a pack; no document sees another (arXiv 2410.01359, figure 1, masks 2-4 and 8).

    Attributes:
        kind: "causal_document"; "document", in both directions; "prefix_lm_document", in both directions within the
            prefix of each document and causal after it; "sliding_window", causal over the last `window` tokens of the
            document.
        window: tokens that a token of "sliding_window" sees, itself included; None for the other kinds.

    Raises:
        ValueError: an unknown kind, or a window with a kind that has none or the other way round.
    """

    kind: str = "causal_document"
    window: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if (self.kind == "sliding_window") != (self.window is not None):
            raise ValueError(f"only sliding_window has a window, and needs one; got {self.kind!r} and {self.window!r}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1; got {self.window}")

    @property
    def causal(self) -> bool:
        """True where the mask is causal and has one bound per key, LTS; otherwise it has two, LTS and UTE."""
        return self.kind in ("causal_document", "sliding_window")

    def columns(self, lengths: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the `startend_row_indices` of a pack that begins at row 0, int32 [T, 1 or 2].

        Args:
            lengths: int32 [number of documents], tokens of every document.
            labels: int64 [T]; the prefix of a document ends at its first label.
        """
        if self.kind == "causal_document":
            bounds = _columns.causal_document(lengths)
        elif self.kind == "sliding_window":
            bounds = _columns.sliding_window_document(lengths, self.window)
        elif self.kind == "document":
            bounds = _columns.document(lengths)
        else:
            bounds = _columns.prefix_lm_document(lengths, prefix_lengths(labels, lengths))
        return bounds[0][:, None] if len(bounds) == 1 else np.stack(bounds, axis=1)


def prefix_lengths(labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the prefix length of every document, int32 [number of documents].

    A prefix ends with the token that predicts the first label (labels are shifted); a document without labels is all
    prefix.
    """
    prefixes = []
    for part in np.split(labels, np.cumsum(lengths)[:-1]):
        scored = np.flatnonzero(part != IGNORED_LABEL)
        prefixes.append(scored[0] + 1 if len(scored) else len(part))
    return np.array(prefixes, dtype=np.int32)
