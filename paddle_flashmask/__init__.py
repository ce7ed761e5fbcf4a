"""Exact, fast attention with column-sparse masks (FlashMask, arXiv:2410.01359) for PaddlePaddle.

Names are imported on first use, so that data-loader workers can use `paddle_flashmask.masks` and
`paddle_flashmask.packing` without importing Paddle.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from paddle_flashmask._dropin import disable, enable, enabled
    from paddle_flashmask.functional import flashmask_attention
    from paddle_flashmask.masks import ColumnMask

__all__ = ["ColumnMask", "__version__", "disable", "enable", "enabled", "flashmask_attention"]

_MODULE_OF = {
    "ColumnMask": "masks",
    "disable": "_dropin",
    "enable": "_dropin",
    "enabled": "_dropin",
    "flashmask_attention": "functional",
}
_SUBMODULES = ("functional", "integrations", "masks", "packing", "reference")


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
