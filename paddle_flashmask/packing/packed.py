"""Packing of rows of any kind: all at once (map style) or as a stream with a bounded buffer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, ClassVar

import numpy as np

from .packs import PackingReport
from .plan import ORDERS, plan_packs

TOO_LONG_RULES = ("drop", "truncate", "error")
MOST_TOKENS = 2**31
"""Token ids are below it: trees are sorted by 32-bit keys, and -100 is no token."""

Row = Mapping[str, Any]


class RowPacker(ABC):
    """The packing steps of one kind of training data."""

    report_type: ClassVar[type[PackingReport]] = PackingReport

    @abstractmethod
    def document(self, row: Row, report: PackingReport) -> Sized | None:
        """Check a row and cut it to report.max_length tokens, or drop it (None). Updates the report."""

    def join(self, documents: list, report: PackingReport) -> list:
        """Join documents that must share a pack. Each result has at most report.max_length tokens."""
        return documents

    @abstractmethod
    def assemble(self, documents: list) -> Any:
        """Build the pack of documents that share it."""


class PackedRows(Sequence):
    """Map-style data set of packs; `report` counts the packed, cut and dropped rows."""

    def __init__(self, packs: list, report: PackingReport):
        self._packs = packs
        self.report = report

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index):
        return self._packs[index]


class PackedStream:
    """Iterable of packs from a bounded buffer of rows.

    Every iteration starts again from the first row and gives the same packs. `report` counts the current or last pass.
    """

    def __init__(
        self, rows: Iterable[Row], packer: RowPacker, max_length: int, order: str, seed: int | None, buffer_rows: int
    ):
        if buffer_rows < 1:
            raise ValueError(f"buffer_rows must be at least 1; got {buffer_rows}")
        self._rows = rows
        self._packer = packer
        self._max_length = max_length
        self._order = order
        self._seed = seed
        self._buffer_rows = buffer_rows
        self.report = packer.report_type(max_length)

    def __iter__(self) -> Iterator:
        self.report = report = self._packer.report_type(self._max_length)
        rng = None if self._seed is None else np.random.default_rng(self._seed)
        documents: list[Sized] = []
        for row in self._rows:
            document = self._packer.document(row, report)
            if document is None:
                continue
            documents.append(document)
            if len(documents) == self._buffer_rows:
                yield from _pack(documents, self._packer, self._order, rng, report)
                documents = []
        yield from _pack(documents, self._packer, self._order, rng, report)


def pack_all(rows: Iterable[Row], packer: RowPacker, max_length: int, order: str, seed: int | None) -> PackedRows:
    """Pack all rows at once."""
    report = packer.report_type(max_length)
    documents = [d for d in (packer.document(row, report) for row in rows) if d is not None]
    rng = None if seed is None else np.random.default_rng(seed)
    return PackedRows(list(_pack(documents, packer, order, rng, report)), report)


def check_choices(max_length: int, order: str, too_long: str) -> None:
    """Raise ValueError for a length below 1, or an unknown order or rule."""
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1; got {max_length}")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    if too_long not in TOO_LONG_RULES:
        raise ValueError(f"too_long must be one of {', '.join(TOO_LONG_RULES)}; got {too_long!r}")


def fits(length: int, number: int, report: PackingReport, too_long: str) -> bool | None:
    """Return True if the row fits, False if it must be cut, and None if it is dropped, which the report counts."""
    if length <= report.max_length:
        return True
    if too_long == "error":
        raise ValueError(f"row {number} has {length} tokens, more than max_length = {report.max_length}")
    if too_long == "drop":
        report.dropped_rows += 1
        return None
    return False


def require_keys(row: Row, keys: Sequence[str], number: int) -> None:
    """Raise ValueError unless the row has all keys."""
    for key in keys:
        if key not in row:
            raise ValueError(f"row {number} has no {key!r}; it has {', '.join(map(repr, row)) or 'nothing'}")


def tokens_and_labels(row: Row, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `input_ids` and `labels` of the row, int64 [n]. ValueError unless they are equally long and n >= 1."""
    require_keys(row, ("input_ids", "labels"), number)
    input_ids = np.asarray(row["input_ids"], dtype=np.int64)
    labels = np.asarray(row["labels"], dtype=np.int64)
    if input_ids.ndim != 1 or input_ids.shape != labels.shape:
        raise ValueError(
            f"row {number}: input_ids and labels must be one-dimensional and equally long; "
            f"got shapes {list(input_ids.shape)} and {list(labels.shape)}"
        )
    if len(input_ids) == 0:
        raise ValueError(f"row {number} has no tokens")
    return input_ids, labels


def _pack(
    documents: list, packer: RowPacker, order: str, rng: np.random.Generator | None, report: PackingReport
) -> Iterator:
    if rng is not None:
        documents = [documents[i] for i in rng.permutation(len(documents))]
    documents = packer.join(documents, report)
    for members in plan_packs([len(document) for document in documents], report.max_length, order):
        pack = packer.assemble([documents[m] for m in members])
        report.count_pack(pack)
        yield pack
