"""Lines of JSON-lines files to rows, with the place of each for error messages."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DataError
from .keys import RepeatedKeyError, near_miss, object_with_unique_keys

SHOWN = 20
ONE_OBJECT = "a file holds one object per line, not an array or object over several lines"

Line = tuple[bytes, str]
Row = TypeVar("Row")


def read_lines(files: Sequence[Path]) -> Iterator[Line]:
    """Every line that is not blank, without a byte-order mark, and its place, "file:line".

    Raises DataError for a file that begins as one array or object over several lines.
    """
    for path in files:
        first = True
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if not line.strip():
                    continue
                if first and (line.startswith(b"[") or line.strip() == b"{"):
                    raise DataError(f"{path}:{number}: {ONE_OBJECT}")
                first = False
                yield line, f"{path}:{number}"


def each_row(lines: Iterable[Line], convert: Callable[[bytes, str], Row], every_error: bool) -> Iterator[Row]:
    """convert(line, place) of every line.

    Raises DataError for the first line for which `convert` raises an error; with every_error only after the last line,
    with the first errors and their number.
    """
    messages: list[str] = []
    count = 0
    for line, place in lines:
        try:
            row = _convert(convert, line, place)
        except DataError as error:
            if not every_error:
                raise
            messages += [str(error)] * (count < SHOWN)
            count += 1
            continue
        yield row
    if count == 1:
        raise DataError(messages[0])
    if count:
        which = f", the first {SHOWN} are" if count > SHOWN else ""
        raise DataError("\n  ".join([f"{count} rows cannot be used{which}:", *messages]))


def _convert(convert: Callable[[bytes, str], Row], line: bytes, place: str) -> Row:
    """The converted line. Other errors than DataError, those of a tokenizer for example, become one with the place."""
    try:
        return convert(line, place)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{place}: the row cannot be turned into tokens: {type(error).__name__}: {error}") from error


def object_of(line: bytes, place: str) -> dict[str, Any]:
    """The JSON object of a line. Raises DataError, which begins with the place, unless it is one of valid text."""
    return _parse_object(_decode(line, place), place)


def _decode(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise DataError(f"{place}: not UTF-8: byte 0x{byte:02x} at offset {error.start}; convert the file") from error


def _parse_object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=object_with_unique_keys)
    except RepeatedKeyError as error:
        raise DataError(f"{place}: the key '{error}' occurs twice in one object") from error
    except json.JSONDecodeError as error:
        text = line.strip()
        hint = f"; {ONE_OBJECT}" if text[:1] in "[]}" or text == "{" or text.endswith(",") else ""
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
        near = near_miss(row, key)
        meant = "" if near is None else f" (is {near!r} meant to be it?)"
        raise DataError(f"{place}: no {key!r}{meant}; the row has {keys_of(row)}")
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
