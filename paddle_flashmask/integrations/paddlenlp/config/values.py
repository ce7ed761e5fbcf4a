"""Keys and values of a configuration and of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from .contradictions import check_contradictions
from .data_sets import check_data_sets
from .files import Config, name_of, read_config
from .keys import CHOICES_OF
from .known import check_known, keys_of
from .machine import check_device
from .numbers import check_numbers
from .reporting import check_report_to, default_report_to
from .switches import check_switches
from .task_name import task_name
from .unsupported import check_unsupported
from .value_types import check_choices, check_types


def read_values(config: Config, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a configuration.

    config: the path of a JSON or YAML file, or a mapping. overrides: `--key value` words, as on PaddleNLP's own command
    line; they win over the configuration. null (None in Python) means absent.

    Raises ConfigError as `read_config`, and for overrides that are not pairs.
    """
    values = {**read_config(config), **_parse_overrides(overrides)}
    values = {key: value for key, value in values.items() if value is not None}
    values.setdefault("report_to", default_report_to())
    return values


def check_early(config: Config, overrides: Sequence[str] = ()) -> None:
    """Report what is wrong with a configuration by itself, without importing Paddle.

    The arguments are those of `read_values`. Raises ConfigError, also for unknown keys, keys of other tasks, wrong
    types, impossible numbers and contradictions, and UnsupportedConfigError.
    """
    values = read_values(config, overrides)
    task, _ = task_name(values, name_of(config))
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
