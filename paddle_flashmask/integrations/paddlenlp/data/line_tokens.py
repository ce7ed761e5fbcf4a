"""Lines of data files to rows of tokens, one by one: the base of the tokens of every task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import DataError
from .data_sets import DataSetRows
from .lines import Line, Record, convert_line, each_row

TokenRow = dict[str, Any]


@dataclass(frozen=True)
class TokenizedLine:
    """The rows of one line of a data file. cut_rows: how many of them lost tokens to a length limit."""

    rows: list[TokenRow]
    cut_rows: int


Outcome = TokenizedLine | DataError
"""A line as tokens, or the error that it raised."""


class LineTokens(ABC):
    """Rows as tokens, as `TokenRows` describes them.

    A line is converted by itself, which another process may do; `accept` takes the converted lines in their order.
    """

    rows: Any
    """The lines of the data files: has `files` and `lines()`."""
    tokenizer: Any
    cut_rows: int
    cut_means: ClassVar[str]
    reader: Reader | None = None
    """What reads the rows; None converts the lines one after the other."""

    @property
    def files(self) -> Sequence[Path]:
        return self.rows.files

    @property
    def data_sets(self) -> list[DataSetRows]:
        return self.rows.mixture.parts

    def __iter__(self) -> Iterator[TokenRow]:
        return self._read(every_error=False)

    def checked(self) -> Iterator[TokenRow]:
        return self._read(every_error=True)

    def _read(self, every_error: bool) -> Iterator[TokenRow]:
        self.begin()
        if self.reader is not None:
            return self.reader.read(self, every_error)
        outcomes = ((outcome_of(self, record, place), place) for record, place in self.lines())
        return self.complete(self.accepted(outcomes, every_error))

    def lines(self) -> Iterator[Line]:
        return self.rows.lines()

    @abstractmethod
    def convert(self, record: Record, place: str) -> TokenizedLine:
        """Convert one record, whatever the others hold. Raises DataError, which begins with `place`."""

    def begin(self) -> None:
        """Start a pass over the files."""
        self.cut_rows = 0

    def accept(self, line: TokenizedLine, place: str) -> list[TokenRow]:
        """Count a converted line, and return its rows. Raises DataError where it does not go with those before it."""
        self.cut_rows += line.cut_rows
        return line.rows

    def complete(self, rows: Iterator[TokenRow]) -> Iterator[TokenRow]:
        """Add what a row takes from other rows."""
        return rows

    def accepted(self, outcomes: Iterable[tuple[Outcome, str]], every_error: bool) -> Iterator[TokenRow]:
        """The rows of converted lines, given with their places in the order of the files. Raises as `each_row`."""

        def take(outcome: Outcome, place: str) -> list[TokenRow]:
            if isinstance(outcome, DataError):
                raise outcome
            return self.accept(outcome, place)

        for rows in each_row(outcomes, take, every_error):
            yield from rows


class Reader(ABC):
    """A way of reading all rows of data files as tokens."""

    @abstractmethod
    def read(self, rows: LineTokens, every_error: bool) -> Iterator[TokenRow]:
        """The rows that `rows` yields without a reader, with its errors and its `cut_rows`."""


def outcome_of(rows: LineTokens, record: Record, place: str) -> Outcome:
    try:
        return convert_line(rows.convert, record, place)
    except DataError as error:
        return error
