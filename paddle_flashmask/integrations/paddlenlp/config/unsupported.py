"""Keys of PaddleNLP that do nothing in this trainer: any value but the default is rejected."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedConfigError
from .keys import DEFAULTS, TYPES, UNSUPPORTED_KEYS
from .value_types import is_on

DROPOUTS = ("attention_probs_dropout_prob", "hidden_dropout_prob")
"""Keys that PaddleNLP hands to models of other families: any value but 0 is rejected."""


def check_unsupported(values: dict[str, Any]) -> None:
    """Raise UnsupportedConfigError for a key without effect that has another value than its default, or dropout."""
    for key, value in values.items():
        if key in DROPOUTS and float(value) != 0:
            raise UnsupportedConfigError(
                f"{key} = {value!r} is not supported in this release: no model here has this dropout; set it to 0"
            )
        if key not in UNSUPPORTED_KEYS:
            continue
        default = DEFAULTS[key]
        if is_on(value) if TYPES[key] == "switch" else value and str(value) != str(default):
            raise UnsupportedConfigError(
                f"{key} = {value!r} is not supported in this release (only its default, {default!r})"
            )
