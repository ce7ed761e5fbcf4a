"""Model libraries that train through the operator. Importing this package imports none of them."""

from __future__ import annotations

import importlib.util
from typing import Protocol


class ModelLibraryPatch(Protocol):
    """Routes one library's attention to the operator, and restores it exactly. Both calls may be repeated."""

    def install(self) -> None: ...

    def uninstall(self) -> None: ...


def model_library_patches() -> list[ModelLibraryPatch]:
    """One patch per supported library that is installed; the same objects on every call.

    Nothing is imported here. A patch whose library is not imported yet takes effect when the user imports it.
    """
    patches: list[ModelLibraryPatch] = []
    if _is_installed("paddlenlp"):
        from .paddlenlp.models.patch import PADDLENLP_PATCH

        patches.append(PADDLENLP_PATCH)
    if _is_installed("paddleformers"):
        from .paddleformers.patch import PADDLEFORMERS_PATCH

        patches.append(PADDLEFORMERS_PATCH)
    return patches


def _is_installed(library: str) -> bool:
    spec = importlib.util.find_spec(library)
    return spec is not None and spec.origin is not None  # a plain folder of that name has no origin
