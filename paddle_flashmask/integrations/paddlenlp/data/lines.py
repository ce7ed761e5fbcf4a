"""Objects of JSON-lines files, with the place of each for error messages."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError


def read_objects(files: Sequence[Path]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object with its place, "file:line". Blank lines are skipped, and a byte-order mark is ignored.

    Raises DataError, which begins with the place, for a line that is not UTF-8, or not a JSON object of valid text.
    """
    for path in files:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                place = f"{path}:{number}"
                text = _decode(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, place)
                if text.strip():
                    yield _parse_object(text, place), place


def _decode(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise DataError(f"{place}: not UTF-8: byte 0x{byte:02x} at offset {error.start}; convert the file") from error


def _parse_object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        spread = "; a file holds one object per line, not an array or object over several lines"
        hint = spread if line.strip() in ("[", "{") else ""
        raise DataError(f"{place}: not valid JSON: {error.msg} (column {error.colno}){hint}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected one JSON object per line; got {type(row).__name__}")
    if "\\u" in line:
        _check_text(row, place)
    return row


def _check_text(row: dict[str, Any], place: str) -> None:
    """Raise DataError for half of a surrogate pair, which JSON can escape but no tokenizer can encode."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise DataError(f"{place}: \\u{half:04x} is half of a surrogate pair, not a character") from error


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
