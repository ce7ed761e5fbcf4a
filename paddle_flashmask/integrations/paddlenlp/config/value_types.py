"""Types and choices of values, checked as PaddleNLP's parser would, without importing Paddle."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from .keys import CHOICES, TYPES

_NUMERIC = {"integer": int, "number": float}
TRUE, FALSE = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")


def check_types(values: dict[str, Any]) -> None:
    """Raise ConfigError for a value that the parser cannot read, with the key, the value and what is expected.

    Values may be words of a command line.
    """
    check_choices(values, CHOICES)
    for key, value in values.items():
        expected = _expected(key, value)
        if expected is not None:
            raise ConfigError(f"{key} = {value!r} must be {expected}")


def check_choices(values: dict[str, Any], choices: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError for a value that is none of the choices of its key, with a choice that it may stand for."""
    for key, words in choices.items():
        if key in values and str(values[key]) not in words:
            near = difflib.get_close_matches(str(values[key]), words, n=1)
            raise ConfigError(
                f"{key} = {values[key]!r} must be one of {', '.join(words)}"
                + (f"; the nearest one is {near[0]!r}" if near else "")
            )


def is_on(value: Any) -> bool:
    """Whether the value of a switch means true."""
    return str(value).lower() in TRUE


def converted(key: str, value: Any) -> Any:
    """The value of a key as PaddleNLP's parser reads it."""
    kind = TYPES[key]
    if kind == "switch":
        return is_on(value)
    if kind in _NUMERIC:
        return _NUMERIC[kind](str(value))
    return value


def _expected(key: str, value: Any) -> str | None:
    """What the value of a key should be, if it is something else."""
    kind = TYPES.get(key)
    if kind in (None, "choice", "list", "object", "data sets"):
        return None
    if isinstance(value, list):
        return "one value"
    if kind == "switch" and str(value).lower() not in TRUE + FALSE:
        return "true or false"
    if kind in _NUMERIC and not _reads_as(_NUMERIC[kind], value):
        return "an integer" if kind == "integer" else "a number"
    return None


def _reads_as(kind: type, value: Any) -> bool:
    try:
        kind(str(value))
    except ValueError:
        return False
    return True
