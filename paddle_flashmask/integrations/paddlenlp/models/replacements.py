"""Replacement of another library's attributes, which can be undone exactly."""

from __future__ import annotations

import importlib.metadata
import warnings
from typing import Any

_NOTHING = object()


class Replacements:
    """Attributes of classes and modules that were replaced, in order."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def put(self, owner: Any, name: str, replacement: Any) -> None:
        """Set owner.name to `replacement`; owner is a class or a module."""
        self._done.append((owner, name, vars(owner).get(name, _NOTHING), replacement))
        _set(owner, name, replacement)

    def take_back(self) -> None:
        """Restore every attribute; one that something else has replaced since stays, with a warning."""
        while self._done:
            owner, name, original, replacement = self._done.pop()
            if vars(owner).get(name, _NOTHING) is not replacement:
                warnings.warn(
                    f"{owner.__name__}.{name} was replaced again after the operator was installed; it is left as it is",
                    stacklevel=3,
                )
            elif original is _NOTHING:
                delattr(owner, name)
            else:
                _set(owner, name, original)


def _set(owner: Any, name: str, value: Any) -> None:
    """setattr without the metaclass of PaddleNLP's models, which would wrap a new `forward`."""
    (type.__setattr__ if isinstance(owner, type) else setattr)(owner, name, value)


def unknown_version(found: str) -> NotImplementedError:
    version = importlib.metadata.version("paddlenlp")
    return NotImplementedError(
        f"paddle_flashmask supports PaddleNLP 3.0.0b3 and 3.0.0b4; this is {version}, where {found}. "
        "Install paddlenlp==3.0.0b4, or do not call paddle_flashmask.enable()"
    )
