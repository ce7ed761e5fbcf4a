"""Keeps Gemma 3 at the attention implementation of its config."""

from __future__ import annotations

from typing import Any

STOCK_CHOICE = "sdpa"


class KeptImplementation:
    """Class attribute `attn_implementation` of PaddleFormers' `Gemma3Attention`.

    In 1.2.0 a layer that is called once without a mask, as in generation, sets that attribute to "sdpa" for good: it
    loses the scale of its config, and on a CPU all later masks too. If the config names one of `names`, this descriptor
    ignores that assignment. As a data descriptor it takes precedence over the instance attribute, so layers built
    earlier are covered as well, and deleting it restores their own attribute.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        if "attn_implementation" not in layer.__dict__:
            raise AttributeError(f"{type(layer).__name__!r} object has no attribute 'attn_implementation'")
        return layer.__dict__["attn_implementation"]

    def __set__(self, layer: Any, value: str) -> None:
        if value != STOCK_CHOICE or layer.__dict__.get("attn_implementation") not in self._names:
            layer.__dict__["attn_implementation"] = value
