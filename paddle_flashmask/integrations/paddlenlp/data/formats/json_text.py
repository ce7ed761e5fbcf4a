"""JSON files: one object per line, or one array of objects."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...errors import DataError
from ..lines import ONE_OBJECT, Line
from .encoding import check_text_file

CHUNK = 1 << 20
"""Bytes of an array that are read at once."""
_BLANKS = " \t\r\n"
_LONGEST_WORD = 16
"""More than the characters of any token that is not a string, such as "-Infinity" or an escape."""


def read_json(path: Path) -> Iterator[Line]:
    """The text of every object, and its place: "file:line", or "file: row 1" and so on in an array.

    A byte-order mark and blank lines are skipped. Raises DataError for a file that begins as one object over several
    lines, and for an array at the first place that is not JSON, behind which its elements cannot be told apart.
    """
    check_text_file(path)
    with open(path, "rb") as file:
        is_array = _first_character(file) == b"["
        file.seek(0)
        yield from (_elements if is_array else _lines)(file, path)


def _first_character(file: BinaryIO) -> bytes:
    start = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8).lstrip()
    while not start and (chunk := file.read(CHUNK)):
        start = chunk.lstrip()
    return start[:1]


def _lines(file: BinaryIO, path: Path) -> Iterator[Line]:
    first = True
    for number, line in enumerate(file, start=1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        if first and line.strip() == b"{":
            raise DataError(f"{path}:{number}: {ONE_OBJECT}")
        first = False
        yield line, f"{path}:{number}"


def _elements(file: BinaryIO, path: Path) -> Iterator[Line]:
    text = _ArrayText(file, path)
    text.skip("[")
    while text.next_character() != "]":
        if text.row > 1:
            text.skip(",")
        yield text.element().encode(), f"{path}: row {text.row}"
        text.row += 1
    text.skip("]")
    if text.next_character():
        raise text.error("there is text after the array")


class _ArrayText:
    """The text of an array from the next element on, decoded as far as it was needed. row: number of that element."""

    def __init__(self, file: BinaryIO, path: Path):
        self.row = 1
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._parser = json.JSONDecoder()
        self._line = 1  # of the first character of _text

    def error(self, reason: str, at: int | None = None) -> DataError:
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        return DataError(f"{self._path}: row {self.row}: not valid JSON: {reason} (line {line})")

    def next_character(self) -> str:
        """The next character that is not blank, which stays the next one; "" at the end of the file."""
        while True:
            rest = len(self._text)
            while self._at < rest and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < rest:
                return self._text[self._at]
            if not self._read_on():
                return ""

    def skip(self, expected: str) -> None:
        found = self.next_character()
        if found != expected:
            raise self.error(f"expected {expected!r}; got {found!r}" if found else "the array has no end")
        self._at += 1

    def element(self) -> str:
        """The text of the next element."""
        self.next_character()
        while True:
            try:
                _, end = self._parser.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # An element that is not yet read to its end fails in its last word, or in a string without an end.
                near_end = error.pos >= len(self._text) - _LONGEST_WORD
                if (near_end or error.msg.startswith("Unterminated string")) and self._read_on():
                    continue
                raise self.error(error.msg, error.pos) from error
            if end == len(self._text) and self._read_on():  # a number may go on
                continue
            text, self._at = self._text[self._at : end], end
            return text

    def _read_on(self) -> bool:
        """Read at least as much as is left, so that long elements are parsed few times. False at the file's end."""
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :], 0
        chunk = self._file.read(max(CHUNK, len(self._text)))
        try:
            self._text += self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise DataError(f"{self._path}: row {self.row} or later: not UTF-8: byte 0x{byte:02x}") from error
        return bool(chunk)
