"""Objects of JSON-lines files, with the place of each for error messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError


def read_objects(files: Sequence[Path]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object with its place, "file:line". Blank lines are skipped.

    Raises DataError, which begins with the place, for a line that is not a JSON object.
    """
    for path in files:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse_object(line, f"{path}:{number}"), f"{path}:{number}"


def _parse_object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected one JSON object per line; got {type(row).__name__}")
    return row


def need(row: dict[str, Any], key: str, place: str) -> Any:
    """The value of a key that the row must have."""
    if key not in row:
        raise DataError(f"{place}: no {key!r}; the row has {keys_of(row)}")
    return row[key]


def keys_of(row: dict[str, Any]) -> str:
    return ", ".join(map(repr, row)) or "no keys"


def texts_of(row: dict[str, Any], key: str, place: str) -> list[str]:
    """The strings of a key that holds a string or a list of them."""
    value = need(row, key, place)
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{place}: {key!r} must be a string or a list of strings; got {value!r:.80}")
    return texts
