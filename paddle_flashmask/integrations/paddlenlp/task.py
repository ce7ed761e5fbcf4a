"""Former module of `train`, which is now in `paddle_flashmask.integrations.paddlenlp.train`."""

from __future__ import annotations

import warnings

from .train import train

__all__ = ["train"]

warnings.warn(f"{__name__} has moved: import train from {train.__module__}", DeprecationWarning, stacklevel=2)
