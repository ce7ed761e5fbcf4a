"""Keys of PaddleNLP that do nothing in this trainer: any value but the default is rejected."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedConfigError
from .keys import DEFAULTS, TYPES, UNSUPPORTED_KEYS
from .value_types import is_on


def check_unsupported(values: dict[str, Any]) -> None:
    """Raise UnsupportedConfigError for a key without effect that has another value than its default."""
    for key, value in values.items():
        if key not in UNSUPPORTED_KEYS:
            continue
        default = DEFAULTS[key]
        if is_on(value) if TYPES[key] == "switch" else value and str(value) != str(default):
            raise UnsupportedConfigError(
                f"{key} = {value!r} is not supported in this release (only its default, {default!r})"
            )
