"""Attention of PaddleFormers through the operator. Importing this package imports no PaddleFormers module.

`register()`, called from the file that a PaddleFormers configuration names under `custom_register_path`, adds the
attention implementation `paddle_flashmask`. `paddle_flashmask.enable()` also routes PaddleFormers' own `flashmask`.
"""

from __future__ import annotations

from .patch import NAME, register

__all__ = ["NAME", "register"]
