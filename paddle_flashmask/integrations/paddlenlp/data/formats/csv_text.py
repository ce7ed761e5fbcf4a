"""CSV files: a header, and rows of texts."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..lines import Line, parse_json
from .encoding import check_text_file

JSON_KEYS = (
    *("messages", "conversations", "history", "context", "answers", "advantages", "log_probabilities"),
    *("sort", "weight", "weights", "label", "kto_tag"),
)
"""Keys that never hold a text. Their cells are JSON."""
_PYTHON_WORDS = {"True": True, "False": False}


def read_csv(path: Path) -> Iterator[Line]:
    """Every row below the header as an object of its cells, and its place: "file: row 1" and so on.

    RFC 4180: commas, double quotes, UTF-8 with or without a byte-order mark; a cell may have several lines. Cells are
    texts as they stand, also empty ones, whatever they look like. Those of JSON_KEYS are JSON, or True or False as
    Python writes them; without a text such a key is absent. Blank lines are skipped.

    Raises DataError for a header with an empty or a repeated name, and for quotes or bytes that cannot be read. A row
    with too many or too few cells is an error of its own.
    """
    check_text_file(path)
    csv.field_size_limit(sys.maxsize)  # of the process; the default is 128 KB
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        header: list[str] | None = None
        number = 0
        while (cells := _next(rows, path, number + 1)) is not None:
            if not cells:
                continue
            if header is None:
                header = _checked_header(cells, path)
                continue
            number += 1
            place = f"{path}: row {number}"
            try:
                yield _row(header, cells, place), place
            except DataError as error:
                yield error, place


def _next(rows: Iterator[list[str]], path: Path, number: int) -> list[str] | None:
    try:
        return next(rows, None)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"{path}: row {number} or later: not UTF-8: byte 0x{byte:02x}; convert the file") from error
    except csv.Error as error:
        raise DataError(f"{path}: row {number}: not valid CSV: {error}") from error


def _checked_header(names: list[str], path: Path) -> list[str]:
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(f"{path}: column {number} of the header has no name")
        if name in names[: number - 1]:
            raise DataError(f"{path}: the header has the column {name!r} twice")
    return names


def _row(header: list[str], cells: list[str], place: str) -> dict[str, Any]:
    if len(cells) != len(header):
        raise DataError(f"{place}: {len(cells)} cells, and the header has {len(header)} columns")
    row: dict[str, Any] = {}
    for key, cell in zip(header, cells, strict=True):
        if key not in JSON_KEYS:
            row[key] = cell
        elif cell.strip():
            row[key] = _from_json(key, cell, place)
    return row


def _from_json(key: str, cell: str, place: str) -> Any:
    if cell in _PYTHON_WORDS:
        return _PYTHON_WORDS[cell]
    try:
        return parse_json(cell, place, key)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: a cell of {key!r} must be JSON: {error.msg}; got {cell!r:.80}") from error
