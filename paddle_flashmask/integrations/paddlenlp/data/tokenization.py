"""How the rows of a run are read as tokens: in several processes, through a cache, with a bar."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tqdm

from ..errors import DataError
from .line_tokens import LineTokens, Reader, TokenRow
from .parallel import PATIENCE, converted
from .token_cache import TokenCache
from .tokenizer_files import LoadedSource, Source

SHOWN_AFTER = 1.0
"""Seconds before the bar appears."""


MOST_PROCESSES = 8
"""Each takes some 400 MB: it imports PaddleNLP."""


def usable_processes(training_processes: int) -> int:
    """The default of the key tokenize_processes: this process's share of the cores."""
    return max(1, min(MOST_PROCESSES, len(os.sched_getaffinity(0)) // max(1, training_processes)))


@dataclass
class Tokenization(Reader):
    """Reads rows as the keys of a run ask. The rows, their order, errors and counts do not depend on it.

    source: of the tokenizer that this process has loaded, for the others. bar: the words before a bar with rows per
    second, None for no bar. patience: seconds of work before other processes are started.
    """

    source: Source
    processes: int = 1
    cache: TokenCache | None = None
    bar: str | None = None
    patience: float = PATIENCE
    _loaded: LoadedSource = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._loaded = LoadedSource(self.source)

    def read(self, rows: LineTokens, every_error: bool) -> Iterator[TokenRow]:
        if self.cache is None:
            return self._fresh(rows, every_error)
        return self.cache.read(rows, lambda: self._fresh(rows, every_error))

    def _fresh(self, rows: LineTokens, every_error: bool) -> Iterator[TokenRow]:
        with _Bar(self.bar, rows) as bar:
            patience = self.patience if self.processes > 1 else float("inf")
            outcomes = converted(rows, rows.lines(), self._loaded, self.processes, patience)
            yield from rows.complete(rows.accepted(bar.over(outcomes), every_error))


class _Bar:
    """A bar over the lines of data files, where standard error is a terminal."""

    def __init__(self, text: str | None, rows: LineTokens):
        self._bar: tqdm.tqdm | None = None
        if text is not None and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=_count(rows), desc=text, unit=" rows", delay=SHOWN_AFTER, leave=False)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def over(self, outcomes: Iterator[Any]) -> Iterator[Any]:
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                if self._bar is not None:
                    self._bar.update()
                yield outcome


def _count(rows: LineTokens) -> int | None:
    """The number of lines, unless they cannot be read."""
    try:
        return sum(1 for _ in rows.lines())
    except DataError:
        return None
