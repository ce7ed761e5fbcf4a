"""Keys that name the data: one path, or a list of data sets with weights."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError

TRAIN_KEYS = ("dataset_name_or_path", "train_dataset_path")
DATA_KEYS = (*TRAIN_KEYS, "dev_dataset_path")
_FORM = "a path, or a list of paths and of objects with 'path' and 'weight'"


@dataclass(frozen=True)
class DataSet:
    """path: file or folder. weight: how often an epoch reads its training data, above 0."""

    path: str
    weight: float = 1.0


def data_sets_of(key: str, value: Any) -> tuple[DataSet, ...]:
    """The data sets that the value of a key names; none for an empty path.

    Raises ConfigError, which begins with the key, for a value of another form, a path that occurs twice, a weight that
    is no finite number above 0, and a weight other than 1 in a key for evaluation data.
    """
    entries = value if isinstance(value, (list, tuple)) else [value]
    if not entries:
        raise ConfigError(f"{key} = [] names no data")
    found = tuple(_data_set(key, entry) for entry in entries)
    paths = [entry.path for entry in found]
    if paths == [""]:
        return ()
    for number, entry in enumerate(found):
        if not entry.path:
            raise ConfigError(f"{key}[{number}] has an empty path")
        if entry.path in paths[:number]:
            raise ConfigError(f"{key} has the path {entry.path!r} twice; its weight says how often it is read")
        if entry.weight != 1 and key not in TRAIN_KEYS:
            raise ConfigError(f"{key}: weight = {entry.weight} has no effect: evaluation reads all rows once")
    return found


def check_data_sets(values: dict[str, Any]) -> None:
    """Raise ConfigError as `data_sets_of` for the keys of the data among the values."""
    for key in DATA_KEYS:
        if key in values:
            data_sets_of(key, values[key])


def take_data_sets(values: dict[str, Any]) -> dict[str, tuple[DataSet, ...]]:
    """The data sets of every key that names some. In the values the first path stands for them, because PaddleNLP's
    parser takes no lists there."""
    found = {key: data_sets_of(key, values[key]) for key in DATA_KEYS if key in values}
    values.update((key, sets[0].path if sets else "") for key, sets in found.items())
    return {key: sets for key, sets in found.items() if sets}


def _data_set(key: str, entry: Any) -> DataSet:
    if isinstance(entry, (str, os.PathLike)):
        return DataSet(os.fspath(entry))
    if not isinstance(entry, dict):
        raise ConfigError(f"{key} must be {_FORM}; got {entry!r:.80}")
    unknown = [name for name in entry if name not in ("path", "weight")]
    if unknown:
        raise ConfigError(f"{key}: unknown key {unknown[0]!r} of a data set; it has 'path' and 'weight'")
    path, weight = entry.get("path"), entry.get("weight", 1)
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError(f"{key}: 'path' of a data set must be a text; got {path!r:.80}")
    is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not (is_number and weight > 0 and math.isfinite(weight)):
        raise ConfigError(f"{key}: weight = {weight!r:.80} of {os.fspath(path)!r} must be a finite number above 0")
    return DataSet(os.fspath(path), float(weight))
