"""Rows of data files as objects, with the place of each for error messages."""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ..errors import DataError
from .keys import RepeatedKeyError, near_miss, object_with_unique_keys

SHOWN = 20
"""Different errors of rows that are listed."""
PLACES_SHOWN = 5
"""Rows with the same error whose places are listed."""
ONE_OBJECT = "a file holds one object per line, or one array of objects"

Record = bytes | dict[str, Any] | DataError
"""A row as a file holds it: the text of a JSON object, an object, or the reason why there is none."""
Line = tuple[Record, str]
"""A row and its place: "file:line", or "file: row 1" and so on where rows are not lines."""
Row = TypeVar("Row")


class RowErrors:
    """The errors of rows: the first different reasons, with the places and the number of their rows, and the number of
    all rows. A row that is read again does not count again."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._places: set[str] = set()
        self._is_cut = False

    def add(self, error: DataError, place: str) -> None:
        if place in self._places:
            return
        self._places.add(place)
        reason = str(error).removeprefix(place)
        if len(self._groups) < SHOWN:
            self._groups.setdefault(reason, _Group())
        if reason in self._groups:
            self._groups[reason].add(place)
        else:
            self._is_cut = True

    def raise_all(self) -> None:
        """Raise DataError with the errors, if there are any."""
        messages = [f"{group}{reason}" for reason, group in self._groups.items()]
        count = len(self._places)
        if count == 1:
            raise DataError(messages[0])
        if count:
            which = f", the first {SHOWN} reasons are" if self._is_cut else ""
            raise DataError("\n  ".join([f"{count} rows cannot be used{which}:", *messages]))


class _Group:
    """The first places of rows with the same error, and their number."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._count = 0

    def add(self, place: str) -> None:
        self._count += 1
        if len(self._first) < PLACES_SHOWN:
            self._first.append(place)

    def __str__(self) -> str:
        """ "file:3", or "file: lines 3, 7, 9, ... (412 rows)"."""
        if self._count == 1:
            return self._first[0]
        parts = []
        for (file, kind), places in itertools.groupby(map(_split_place, self._first), key=operator.itemgetter(0, 1)):
            numbers = [number for *_, number in places]
            parts.append(f"{file}: {kind}{'s' * (len(numbers) > 1)} {', '.join(numbers)}")
        rest = f", ... ({self._count} rows)" if self._count > len(self._first) else ""
        return "; ".join(parts) + rest


def _split_place(place: str) -> tuple[str, str, str]:
    """The file, "line" or "row", and the number of a place."""
    for kind, separator in (("row", ": row "), ("line", ":")):
        file, _, number = place.rpartition(separator)
        if file:
            return file, kind, number
    return place, "row", ""


def each_row(lines: Iterable[Line], convert: Callable[[Record, str], Row], every_error: bool) -> Iterator[Row]:
    """convert(record, place) of every line.

    Raises DataError for the first line for which `convert` raises an error; with every_error only after the last line,
    with all errors, the same ones together.
    """
    errors = RowErrors()
    for record, place in lines:
        try:
            row = convert_line(convert, record, place)
        except DataError as error:
            if not every_error:
                raise
            errors.add(error, place)
            continue
        yield row
    errors.raise_all()


def convert_line(convert: Callable[[Record, str], Row], record: Record, place: str) -> Row:
    """The converted record. Other errors than DataError, as those of a tokenizer, become one with the place."""
    try:
        return convert(record, place)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{place}: the row cannot be turned into tokens: {type(error).__name__}: {error}") from error


def object_of(record: Record, place: str) -> dict[str, Any]:
    """The object of a record without the keys that are null, which are as absent.

    Raises DataError, which begins with the place, unless it is one object of valid text.
    """
    if isinstance(record, DataError):
        raise record
    row = record if isinstance(record, dict) else _parse_object(_decode(record, place), place)
    return {key: value for key, value in row.items() if value is not None}


def _decode(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise DataError(f"{place}: not UTF-8: byte 0x{byte:02x} at offset {error.start}; convert the file") from error


def _parse_object(line: str, place: str) -> dict[str, Any]:
    try:
        row = parse_json(line, place)
    except json.JSONDecodeError as error:
        text = line.strip()
        hint = f"; {ONE_OBJECT}" if text[:1] in "[]}" or text == "{" or text.endswith(",") else ""
        raise DataError(f"{place}: not valid JSON: {error.msg} (column {error.colno}){hint}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected a JSON object; got {type(row).__name__}")
    return row


def parse_json(text: str, place: str, key: str | None = None) -> Any:
    """The value of a JSON text. key: of the row, where the text is its value.

    Raises JSONDecodeError where it is not JSON. Raises DataError for a key that occurs twice in an object, and for half
    of a surrogate pair, which JSON can escape but no tokenizer can encode.
    """
    of_key = "" if key is None else f" of {key!r}"
    try:
        value = json.loads(text, object_pairs_hook=object_with_unique_keys)
    except RepeatedKeyError as error:
        raise DataError(f"{place}: the key '{error}' occurs twice in one object{of_key}") from error
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            half = ord(error.object[error.start])
            raise DataError(f"{place}: \\u{half:04x}{of_key} is half of a surrogate pair, not a character") from error
    return value


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
