"""The NumPy half of paddle_flashmask/reference.py, loaded by path so that tests of the kernels alone need no Paddle."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from .repository import REPOSITORY


def _load() -> ModuleType:
    path = REPOSITORY / "paddle_flashmask" / "reference.py"
    spec = importlib.util.spec_from_file_location("paddle_flashmask_reference_by_path", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_reference = _load()
visible = _reference.visible
dropout_keep = _reference.dropout_keep
philox4x32 = _reference.philox4x32
