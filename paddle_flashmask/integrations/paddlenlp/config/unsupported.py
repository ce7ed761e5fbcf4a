"""Keys of PaddleNLP that do nothing in this trainer: any value but the default is rejected."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedConfigError
from .keys import SWITCHES, UNSUPPORTED_KEYS
from .value_types import is_on


def check_unsupported(values: dict[str, Any]) -> None:
    """Raise UnsupportedConfigError for a key without effect that has another value than its default."""
    for key, default in UNSUPPORTED_KEYS.items():
        value = values.get(key)
        given = is_on(value) if key in SWITCHES else value and str(value) != str(default)
        if given:
            raise UnsupportedConfigError(
                f"{key} = {value!r} is not supported in this release (only its default, {default!r})"
            )
