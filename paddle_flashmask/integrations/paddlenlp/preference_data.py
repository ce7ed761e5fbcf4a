"""Former module of `TokenizedAnswers`, which is now `PreferenceTokens` in `.data.preference_tokens`."""

from __future__ import annotations

import warnings

from .data.preference_tokens import PreferenceTokens

__all__ = ["TokenizedAnswers"]

TokenizedAnswers = PreferenceTokens

warnings.warn(
    f"{__name__} has moved: import PreferenceTokens from {PreferenceTokens.__module__}",
    DeprecationWarning,
    stacklevel=2,
)
