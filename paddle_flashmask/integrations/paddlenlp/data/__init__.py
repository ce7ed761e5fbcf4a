"""Rows of PaddleNLP's and Hugging Face's data files to tokens and packs.

`JSONLines` and `TokenizedRows` are the former names of `instructions.SFTLines` and `instructions.SFTTokens`.
"""

from __future__ import annotations

import warnings

_MOVED = {"JSONLines": "SFTLines", "TokenizedRows": "SFTTokens"}


def __getattr__(name: str) -> type:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import instructions

    new = _MOVED[name]
    warnings.warn(f"{name} has moved: import {new} from {instructions.__name__}", DeprecationWarning, stacklevel=2)
    return getattr(instructions, new)
