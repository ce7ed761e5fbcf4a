"""Files and folders of a data set: which of them hold a split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from .formats import COUNTERS, READERS
from .formats.arrow import SPLITS, count_saved, files_of_saved, is_saved, read_saved, saved_splits
from .lines import Line

ENDINGS = tuple(READERS)
_LISTED = ", ".join(f"*{ending}" for ending in ENDINGS)
_DATA_NAME = re.compile(rf"({'|'.join(map(re.escape, ENDINGS))})(\.(gz|bz2|xz|zst|zip))?$", re.IGNORECASE)
_SPLIT_WORDS = ("train", "dev", "validation", "valid", "val", "eval", "test")
DEV_SPLITS = (("dev", "validation"), ("test",))
"""Names of the split for evaluation in a saved `DatasetDict`. Those of the second row count without the first."""


class NoSplitError(DataError):
    """A data set has rows, but none for evaluation."""


@dataclass(frozen=True)
class Source:
    """One file of rows, or a folder that `datasets` has saved. files: all that decide the rows."""

    path: Path
    files: tuple[Path, ...]

    def lines(self) -> Iterator[Line]:
        return read_saved(self.path) if self.path.is_dir() else READERS[self.path.suffix](self.path)

    def count(self) -> int:
        """The number of rows, also of those that cannot be used."""
        counted = count_saved if self.path.is_dir() else COUNTERS.get(self.path.suffix)
        return sum(1 for _ in self.lines()) if counted is None else counted(self.path)


Finder = Callable[[str, str], list[Source]]
"""A function from a path and a split, "train" or "dev", to the sources of that split. Raises DataError without any."""


def split_sources(path: str, split: str) -> list[Source]:
    """The sources of a split in PaddleNLP's layout: `<path>/<split>.json` or another ending of ENDINGS, or a folder
    `<path>/<split>` of such files or saved by `datasets`.

    `path` may also be a folder that `datasets` has saved, or a file, which both hold training data alone, unless the
    folder has splits.

    Raises DataError where there are none (NoSplitError where a folder has none for evaluation), and where two of them
    could hold the split.
    """
    whole, folder = Path(path), Path(path) / split
    saved = _saved(whole, split)
    if saved is None and whole.is_file():
        saved = [_file(whole)]
    if saved is not None:
        if split == "train" or saved_splits(whole) is not None:
            return saved
        raise NoSplitError(f"no {split} data: {path} has no splits, so that all of it is training data")
    found = [file for file in (Path(f"{folder}{ending}") for ending in ENDINGS) if file.is_file()]
    inside = (_saved(folder, split) or _files_in(folder)) if folder.is_dir() else []
    candidates = [*found, *[folder] * bool(inside)]
    if len(candidates) > 1:
        raise DataError(f"both {candidates[0]} and {candidates[1].name} exist; which one holds the {split} data?")
    if not candidates:
        kind = NoSplitError if split != "train" and whole.is_dir() else DataError
        raise kind(
            f"no {split} data: {path} has neither {', '.join(split + ending for ending in ENDINGS)} nor a folder "
            f"{split} of {_LISTED}, and it was not saved by `datasets`"
        )
    return list(map(_file, found)) or inside


def path_sources(path: str, split: str) -> list[Source]:
    """The sources of a path that holds one split: a file, a folder of files in the order of their names, or a folder
    saved by `datasets`, of whose splits only `split` is read. Raises DataError as `split_sources`."""
    whole = Path(path)
    sources = [_file(whole)] if whole.is_file() else _saved(whole, split) or _files_in(whole)
    if not sources:
        raise DataError(f"no {split} data: {path} is neither a file nor a folder with {_LISTED} or saved by `datasets`")
    return sources


def _file(path: Path) -> Source:
    if path.suffix not in READERS:
        raise DataError(f"{path}: the name of a data file ends in one of {', '.join(ENDINGS)}")
    return Source(path, (path,))


def _files_in(folder: Path) -> list[Source]:
    """The data files of a folder in the order of their names, none of them twice in different formats.

    Raises DataError for files whose names say that they are data in a form that is not read, and for files of several
    splits, because all files of a folder are one split.
    """
    names = sorted(file for file in folder.glob("*") if file.is_file())
    for file in names:
        if file.suffix not in READERS and _DATA_NAME.search(file.name):
            raise DataError(f"{file} would not be read: the name of a data file ends in one of {', '.join(ENDINGS)}")
    files = [file for file in names if file.suffix in READERS]
    for first, second in zip(files, files[1:], strict=False):
        if first.stem == second.stem:
            raise DataError(f"both {first} and {second.name} exist; do they hold the same rows?")
    splits = {word: file for file in files if (word := re.split("[-_.]", file.stem)[0].lower()) in _SPLIT_WORDS}
    if len(splits) > 1:
        first, second, *_ = splits.values()
        raise DataError(f"{first} and {second.name} are named after two splits; all files of a folder are read as one")
    return list(map(_file, files))


def _saved(folder: Path, split: str) -> list[Source] | None:
    """The source in a folder that `datasets` has saved; None for any other path."""
    splits = saved_splits(folder)
    if splits is None:
        return [Source(folder, tuple(files_of_saved(folder)))] if is_saved(folder) else None
    wanted = [("train",)] if split == "train" else DEV_SPLITS
    found = next((names for row in wanted if (names := [name for name in row if name in splits])), [])
    if len(found) > 1:
        raise DataError(f"{folder} has the splits {found[0]} and {found[1]}; which one holds the {split} data?")
    if not found:
        names = ", ".join(name for row in wanted for name in row)
        raise NoSplitError(f"no {split} data: {folder} has the splits {', '.join(splits)}; expected {names}")
    sources = _saved(folder / found[0], split)
    if sources is None:
        raise DataError(f"{folder / found[0]} was not saved by `datasets`, but {folder / SPLITS} names it")
    return sources
