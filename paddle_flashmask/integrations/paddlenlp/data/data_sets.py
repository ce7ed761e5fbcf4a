"""The rows of one or several data sets, each read as often as its weight asks for."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..config.data_sets import DataSet
from ..errors import DataError
from .files import Finder, NoSplitError, Source
from .lines import Line


@dataclass(frozen=True)
class DataSetRows:
    """One data set of a split. seed: of the rows that a weight with a fraction takes."""

    path: str
    weight: float
    sources: Sequence[Source]
    seed: str

    @property
    def files(self) -> list[Path]:
        return [file for source in self.sources for file in source.files]

    @functools.cached_property
    def rows(self) -> int:
        """The number of rows in the files, also of those that cannot be used."""
        return sum(source.count() for source in self.sources)

    @functools.cached_property
    def taken(self) -> int:
        """The number of rows in an epoch: weight x rows, rounded to the nearest integer, a half upwards.

        Raises DataError for none.
        """
        taken = int(Fraction(str(self.weight)) * self.rows + Fraction(1, 2))
        if not taken:
            raise DataError(f"{self.path}: weight = {self.weight} takes none of {self.rows} rows")
        return taken

    def all_lines(self) -> Iterator[Line]:
        return itertools.chain.from_iterable(source.lines() for source in self.sources)

    def lines(self) -> Iterator[Line]:
        """The rows of an epoch: all of them as often as the weight has ones, and then a random part in their order."""
        if self.weight == 1:
            yield from self.all_lines()
            return
        whole, part = divmod(self.taken, self.rows)
        for _ in range(whole):
            yield from self.all_lines()
        yield from self._random_part(part)

    def _random_part(self, count: int) -> Iterator[Line]:
        """`count` of the rows, every subset with the same probability (Knuth, TAOCP vol. 2, 3.4.2, algorithm S)."""
        draw = random.Random(self.seed)
        for seen, line in enumerate(self.all_lines() if count else ()):
            if draw.randrange(self.rows - seen) < count:
                yield line
                count -= 1


class DataSetMixture:
    """The rows of one split of all data sets.

    Training reads every data set as its weight says. The rows of several are merged at random: of all orders that keep
    the order within each data set, every one is equally likely, so that a stream sees them in equal shares throughout.
    Evaluation reads all rows once, one data set after the other, and skips those without evaluation data if others have
    some. The order depends on `seed` alone.

    Iterating over `lines` reads the files again; they are counted once, where the weights or the merge need it.
    """

    def __init__(self, data_sets: str | Sequence[DataSet], split: str, find: Finder, seed: int = 0):
        given = [DataSet(data_sets)] if isinstance(data_sets, str) else data_sets
        self._trains = split == "train"
        self._seed = seed
        self.parts: list[DataSetRows] = []
        missing: NoSplitError | None = None
        for number, data_set in enumerate(given):
            try:
                sources = find(data_set.path, split)
            except NoSplitError as error:
                if self._trains or len(given) == 1:
                    raise
                missing = missing or error
                continue
            weight = data_set.weight if self._trains else 1.0
            self.parts.append(DataSetRows(data_set.path, weight, sources, f"{seed}/{number}"))
        if missing is not None and not self.parts:
            raise missing

    @property
    def files(self) -> list[Path]:
        return [file for part in self.parts for file in part.files]

    @property
    def settings(self) -> list[Any]:
        """What decides the rows and their order, beside the contents of the files."""
        parts = [[part.weight, part.seed, [source.path.suffix for source in part.sources]] for part in self.parts]
        return [self._trains, self._seed, parts]

    def lines(self) -> Iterator[Line]:
        if len(self.parts) == 1 or not self._trains:
            return itertools.chain.from_iterable(part.lines() for part in self.parts)
        return self._merged()

    def _merged(self) -> Iterator[Line]:
        draw = random.Random(self._seed)
        streams = [part.lines() for part in self.parts]
        left = [part.taken for part in self.parts]
        for remaining in range(sum(left), 0, -1):
            place = draw.randrange(remaining)
            number = next(n for n, end in enumerate(itertools.accumulate(left)) if place < end)
            line = next(streams[number], None)
            if line is None:
                raise DataError(f"{self.parts[number].path} has lost rows since they were counted")
            left[number] -= 1
            yield line
