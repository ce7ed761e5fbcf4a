"""Keys and values of a configuration file and of the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .contradictions import check_contradictions
from .data_sets import check_data_sets
from .keys import CHOICES_OF
from .known import check_known, keys_of
from .machine import check_device
from .numbers import check_numbers
from .reporting import check_report_to, default_report_to
from .switches import check_switches
from .task_name import task_name
from .unsupported import check_unsupported
from .value_types import check_choices, check_types


def read_values(path: str | os.PathLike, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a PaddleNLP JSON file.

    overrides: `--key value` words, as on PaddleNLP's own command line; they win over the file. JSON null means absent.

    Raises ConfigError for an unreadable file, invalid JSON, a duplicate key, and overrides that are not pairs.
    """
    values = {**_read_json(Path(path)), **_parse_overrides(overrides)}
    values = {key: value for key, value in values.items() if value is not None}
    values.setdefault("report_to", default_report_to())
    return values


def check_early(path: str | os.PathLike, overrides: Sequence[str] = ()) -> None:
    """Report what is wrong with a configuration by itself, without importing Paddle.

    The arguments are those of `read_values`. Raises ConfigError, also for unknown keys, keys of other tasks, wrong
    types, impossible numbers and contradictions, and UnsupportedConfigError.
    """
    values = read_values(path, overrides)
    task, _ = task_name(values, Path(path).stem)
    check_known(values, keys_of(task))
    check_types(values)
    check_data_sets(values)
    check_choices(values, CHOICES_OF[task])
    check_numbers(values)
    check_report_to(values)
    check_device(values)
    check_switches(values)
    check_unsupported(values)
    check_contradictions(values, task)


def _read_json(path: Path) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{path}: duplicate key {key!r}")
            seen[key] = value
        return seen

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    try:
        values = json.loads(text, object_pairs_hook=without_duplicates)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object of configuration keys; got {type(values).__name__}")
    return values


def _parse_overrides(words: Sequence[str]) -> dict[str, str]:
    values = {}
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise ConfigError(f"expected --key value after the configuration file; got {word!r}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise ConfigError(f"--{key} needs a value, for example --{key} true")
            value = words.pop(0)
        values[key] = value
    return values
