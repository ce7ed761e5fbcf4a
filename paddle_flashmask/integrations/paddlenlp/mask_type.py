"""Our keys of SFT configurations: what the tokens of a document see of each other."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Optional

from paddle_flashmask.packing import DocumentAttention
from paddle_flashmask.packing.attention import KINDS

from .errors import ConfigError


@dataclass
class MaskOptions:
    """attention_mask_type: a kind of `DocumentAttention`; the source of a row is the prefix. attention_window_size: of
    sliding_window, tokens that a token sees, itself included."""

    attention_mask_type: str = "causal_document"
    attention_window_size: Optional[int] = None  # noqa: UP045

    def attention(self) -> DocumentAttention:
        return DocumentAttention(self.attention_mask_type, self.attention_window_size)

    def check(self) -> None:
        """Raises ConfigError for another kind, and for a window that does not go with it."""
        kind, window = self.attention_mask_type, self.attention_window_size
        if kind not in KINDS:
            (nearest,) = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.0)
            raise ConfigError(
                f"attention_mask_type = {kind!r} must be one of {', '.join(KINDS)}; the nearest one is {nearest!r}"
            )
        if kind == "sliding_window" and window is None:
            raise ConfigError("attention_mask_type = 'sliding_window' needs attention_window_size, for example 512")
        if kind != "sliding_window" and window is not None:
            raise ConfigError(f"attention_window_size = {window} goes with sliding_window, not with {kind!r}")
        if window is not None and window < 1:
            raise ConfigError(f"attention_window_size = {window} must be at least 1")
