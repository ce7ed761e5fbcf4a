"""Types and choices of values, checked as PaddleNLP's parser would, without importing Paddle."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .keys import CHOICES, INTEGERS, LISTS, NUMBERS, OBJECTS, SWITCHES

TRUE, FALSE = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")


def check_types(values: dict[str, Any]) -> None:
    """Raise ConfigError for a value that the parser cannot read, with the key, the value and what is expected.

    Values may be words of a command line.
    """
    for key, value in values.items():
        expected = _expected(key, value)
        if expected is not None:
            raise ConfigError(f"{key} = {value!r} must be {expected}")


def is_on(value: Any) -> bool:
    """Whether the value of a switch means true."""
    return str(value).lower() in TRUE


def _expected(key: str, value: Any) -> str | None:
    """What the value of a key should be, if it is something else."""
    if key in LISTS or key in OBJECTS:
        return None
    if isinstance(value, list):
        return "one value"
    if key in CHOICES and str(value) not in CHOICES[key]:
        return f"one of {', '.join(CHOICES[key])}"
    if key in SWITCHES and str(value).lower() not in TRUE + FALSE:
        return "true or false"
    if key in INTEGERS and not _reads_as(int, value):
        return "an integer"
    if key in NUMBERS and not _reads_as(float, value):
        return "a number"
    return None


def _reads_as(kind: type, value: Any) -> bool:
    try:
        kind(str(value))
    except ValueError:
        return False
    return True
