"""Context parallel attention: one sequence whose rows and keys are spread over the ranks of a process group.

Names are imported on first use, so that data-loader workers can share out rows without importing Paddle.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import PeerError
    from .functional import flashmask_attention
    from .sharing import RowShares, contiguous, share_rows, zigzag

__all__ = ["PeerError", "RowShares", "contiguous", "flashmask_attention", "share_rows", "zigzag"]

_MODULES = {"PeerError": "agreement", "flashmask_attention": "functional"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES.get(name, 'sharing')}", __name__), name)
