"""Replacement of Paddle's and the model libraries' attention by the operator, and its exact reversal."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_NAME = "flashmask_attention"
# Modules that export it. The last one lacks it in some Paddle releases and is then left alone.
_MODULES = ("paddle.nn.functional", "paddle.nn.functional.flash_attention", "paddle.incubate.nn.functional")


class _State:
    """Changes of enable(): pairs of a module and its original function, and the installed model library patches."""

    def __init__(self) -> None:
        self.originals: list[tuple[ModuleType, Any]] = []
        self.patches: list[Any] = []
        self.active = False


_state = _State()


def _model_library_patches() -> list[Any]:
    """Return one patch, with install() and uninstall(), for each supported model library that is installed."""
    from paddle_flashmask import integrations

    return integrations.model_library_patches()


def enable() -> None:
    """Route paddle.nn.functional.flashmask_attention and the attention of installed model libraries to this operator.

    Call it before the model is built. A second call has no effect. Importing this package does not enable it.

    Raises:
        ImportError: the operator cannot be loaded (see paddle_flashmask.functional).
        NotImplementedError: an installed model library has an unsupported version.
    """
    if _state.active:
        return
    from paddle_flashmask import functional

    _state.active = True
    try:
        for module_name in _MODULES:
            module = importlib.import_module(module_name)
            if hasattr(module, _NAME):
                _state.originals.append((module, getattr(module, _NAME)))
                setattr(module, _NAME, functional.flashmask_attention)
        for patch in _model_library_patches():
            patch.install()
            _state.patches.append(patch)
    except BaseException:
        disable()
        raise


def disable() -> None:
    """Undo enable(); without it, do nothing.

    A function that other code has replaced since enable() stays as it is, with a warning.
    """
    if not _state.active:
        return
    from paddle_flashmask import functional

    while _state.originals:  # before the patches, which look up Paddle's functions
        module, original = _state.originals.pop()
        if getattr(module, _NAME) is functional.flashmask_attention:
            setattr(module, _NAME, original)
        else:
            warnings.warn(
                f"{module.__name__}.{_NAME} was replaced after paddle_flashmask.enable(); it is left as it is",
                stacklevel=2,
            )
    while _state.patches:
        _state.patches.pop().uninstall()
    _state.active = False


@contextlib.contextmanager
def enabled() -> Iterator[None]:
    """Enable the operator inside a `with` block, then restore the state from before it, also after an exception."""
    was_active = _state.active
    enable()
    try:
        yield
    finally:
        if not was_active:
            disable()
