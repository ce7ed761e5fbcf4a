"""Configurations as they are given: a JSON file, a YAML file, or a mapping in Python."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

YAML_ENDINGS = (".yaml", ".yml")

Config = str | os.PathLike | Mapping[str, Any]
"""The path of a JSON or YAML file, or the values themselves."""


def read_config(config: Config) -> dict[str, Any]:
    """The values of a configuration.

    Raises ConfigError for an unreadable file, invalid JSON or YAML, a duplicate key, and a value that JSON lacks.
    """
    if isinstance(config, Mapping):
        return _plain_values(config, "the configuration")
    path = Path(config)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(f"{path}: not UTF-8: byte 0x{byte:02x} at offset {error.start}") from error
    return _read_yaml(text, path) if path.suffix.lower() in YAML_ENDINGS else _read_json(text, path)


def name_of(config: Config) -> str:
    """The file name without its ending, which may name the task; empty for a mapping."""
    return "" if isinstance(config, Mapping) else Path(config).stem


def _read_json(text: str, path: Path) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{path}: duplicate key {key!r}")
            seen[key] = value
        return seen

    try:
        values = json.loads(text, object_pairs_hook=without_duplicates)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object of configuration keys; got {type(values).__name__}")
    return values


def _read_yaml(text: str, path: Path) -> dict[str, Any]:
    """Values of a YAML 1.2 document: `1e-5` is a number, and `on`, `off`, `yes` and `no` are words."""
    try:
        from ruamel.yaml import YAML, YAMLError
        from ruamel.yaml.constructor import SafeConstructor
    except ImportError as error:
        raise ConfigError(f"{path}: YAML needs the package ruamel.yaml: pip install 'ruamel.yaml>=0.18'") from error

    class Constructor(SafeConstructor):
        """Leaves dates as text, because no key takes one."""

    Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Constructor
    try:
        values = yaml.load(text)
    except YAMLError as error:
        raise ConfigError(_yaml_message(error, path)) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a YAML mapping of configuration keys; got {type(values).__name__}")
    return _plain_values(values, str(path))


def _yaml_message(error: Any, path: Path) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f"{path}: not valid YAML: {' '.join(str(error).split())}"
    where, column = f"{path}:{mark.line + 1}", mark.column + 1
    if problem.startswith("found duplicate key"):
        return f"{where}: duplicate key {problem.split(chr(34))[1]!r} (column {column})"
    return f"{where}: not valid YAML: {problem} (column {column})"


def _plain_values(values: Mapping[Any, Any], source: str) -> dict[str, Any]:
    """The values as JSON has them: tuples become lists, and paths text."""
    for key in values:
        if not isinstance(key, str):
            raise ConfigError(f"{source}: the key {key!r} must be text; got {type(key).__name__}")
    try:
        return {key: _plain(value, key) for key, value in values.items()}
    except RecursionError as error:
        raise ConfigError(f"{source}: a value contains itself") from error


def _plain(value: Any, key: str) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, key) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item, key) for name, item in value.items()}
    raise ConfigError(
        f"{key} = {value!r} must be text, a number, true or false, a list or an object; got {type(value).__name__}"
    )
