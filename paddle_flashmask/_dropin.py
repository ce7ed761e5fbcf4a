"""Puts the operator where Paddle and the model libraries look for theirs, and takes it back exactly."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_NAME = "flashmask_attention"
# Where callers find it. The last one is not in every Paddle release; what has no such name is left alone.
_MODULES = ("paddle.nn.functional", "paddle.nn.functional.flash_attention", "paddle.incubate.nn.functional")


class _State:
    """What enable() changed: (module, the function it held before), and the installed patches of model libraries."""

    def __init__(self) -> None:
        self.originals: list[tuple[ModuleType, Any]] = []
        self.patches: list[Any] = []
        self.active = False


_state = _State()


def _model_library_patches() -> list[Any]:
    """Patches with install() and uninstall(), one for each supported model library that is installed."""
    from paddle_flashmask import integrations

    return integrations.model_library_patches()


def enable() -> None:
    """Routes paddle.nn.functional.flashmask_attention, and the attention of the installed model libraries, here.

    Call it before the model is built. Calling it again changes nothing. Importing this package never does it.

    Raises:
        ImportError: the operator can not be loaded (see paddle_flashmask.functional).
        NotImplementedError: an installed model library has a version that this package does not know.
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
    """Takes back what enable() did; without enable() it changes nothing.

    A name that something else has replaced in the meantime is left to it, with a warning.
    """
    if not _state.active:
        return
    from paddle_flashmask import functional

    while _state.originals:  # first, so that the patches find Paddle's own functions
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
    """`with paddle_flashmask.enabled():` routes attention inside the block, and leaves the state found before it."""
    was_active = _state.active
    enable()
    try:
        yield
    finally:
        if not was_active:
            disable()
