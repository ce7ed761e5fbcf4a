"""Tables of Arrow: Parquet files, and folders that Hugging Face's `datasets` has saved.

Parquet is read by pyarrow itself, which `datasets` is built on and which reads a batch at a time; `datasets` would copy
the file into a cache.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..lines import Line

BATCH = 256
"""Rows that are held at once."""
STATE = "state.json"
SPLITS = "dataset_dict.json"
_INFO = "dataset_info.json"


def read_parquet(path: Path) -> Iterator[Line]:
    """Every row as an object, and its place: "file: row 1" and so on."""
    with _parquet_file(path) as file:
        yield from _rows(file.iter_batches(batch_size=BATCH), path)


def count_parquet(path: Path) -> int:
    with _parquet_file(path) as file:
        return file.metadata.num_rows


def read_saved(folder: Path) -> Iterator[Line]:
    """Every row of a saved `Dataset` as an object, and its place: "folder: row 1" and so on."""
    yield from _rows(_saved(folder).with_format("arrow").iter(batch_size=BATCH), folder)


def count_saved(folder: Path) -> int:
    return len(_saved(folder))


def is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` wrote the folder."""
    return (folder / STATE).is_file() and (folder / _INFO).is_file()


def files_of_saved(folder: Path) -> list[Path]:
    """The files of a saved `Dataset` that decide its rows."""
    try:
        names = [entry["filename"] for entry in json.loads((folder / STATE).read_text("utf-8"))["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / STATE}: not the state of a saved data set: {error!r}") from error
    return [folder / name for name in (_INFO, *names)]


def saved_splits(folder: Path) -> list[str] | None:
    """The names of the splits of a saved `DatasetDict`; None for any other folder."""
    path = folder / SPLITS
    if not path.is_file():
        return None
    try:
        return [str(name) for name in json.loads(path.read_text("utf-8"))["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the list of the splits of a saved data set: {error!r}") from error


def _parquet_file(path: Path) -> Any:
    parquet = _library("pyarrow.parquet", path)
    try:
        file = parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # pyarrow's errors are subclasses of these
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    names = file.schema_arrow.names
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: the column {name!r} occurs twice")
    return file


def _saved(folder: Path) -> Any:
    datasets = _library("datasets", folder)
    try:
        return datasets.load_from_disk(str(folder))
    except (ValueError, OSError, TypeError) as error:
        raise DataError(f"{folder}: not a saved data set: {error}") from error


def _library(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise DataError(f"{path} needs the package {package}: pip install {package}") from error


def _rows(batches: Iterable[Any], path: Path) -> Iterator[Line]:
    number = 0
    try:
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield _without_nulls(row), f"{path}: row {number}"
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: row {number + 1} or later cannot be read: {error}") from error


def _without_nulls(value: Any) -> Any:
    """The value without keys that are null: all objects of a column have the keys of any of them.

    The `content` of a message stays, as in a message with tool calls alone, but not an argument `content` of a call.
    """
    if isinstance(value, dict):
        kept = ("content",) if value.get("role") is not None else ()
        return {key: _without_nulls(part) for key, part in value.items() if part is not None or key in kept}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value
