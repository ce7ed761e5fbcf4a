"""The operator as an attention implementation of PaddleFormers. Importing this package imports no PaddleFormers module.

`register()` adds the attention implementation `paddle_flashmask`; the file that a PaddleFormers configuration names
under `custom_register_path` calls it. `paddle_flashmask.enable()` also routes PaddleFormers' own `flashmask`.
"""

from __future__ import annotations

from .patch import NAME, register

__all__ = ["NAME", "register"]
