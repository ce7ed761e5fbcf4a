"""Rows to packs, whatever a row is: all at once (map style) or as a stream with a bounded buffer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Protocol

import numpy as np

from .packs import PackingReport
from .plan import ORDERS, plan_packs

TOO_LONG_RULES = ("drop", "truncate", "error")

Row = Mapping[str, Any]


class RowPacker(Protocol):
    """What one kind of training data does with its rows."""

    def document(self, row: Row, report: PackingReport) -> Sized | None:
        """A checked row of at most report.max_length tokens, or None for one that is dropped; counts in the report."""

    def assemble(self, documents: list) -> Any:
        """Documents that share a pack, as that pack."""


class PackedRows(Sequence):
    """Map-style data set of packs; `report` says how the rows were packed."""

    def __init__(self, packs: list, report: PackingReport):
        self._packs = packs
        self.report = report

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index):
        return self._packs[index]


class PackedStream:
    """Iterable of packs made from a bounded buffer of rows.

    Every iteration starts the rows again and packs them the same way, so two passes give the same packs. `report`
    counts the pass that is running or ran last.
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
        self.report = PackingReport(max_length)

    def __iter__(self) -> Iterator:
        self.report = report = PackingReport(self._max_length)
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
    report = PackingReport(max_length)
    documents = [d for d in (packer.document(row, report) for row in rows) if d is not None]
    rng = None if seed is None else np.random.default_rng(seed)
    return PackedRows(list(_pack(documents, packer, order, rng, report)), report)


def check_choices(max_length: int, order: str, too_long: str) -> None:
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1; got {max_length}")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    if too_long not in TOO_LONG_RULES:
        raise ValueError(f"too_long must be one of {', '.join(TOO_LONG_RULES)}; got {too_long!r}")


def fits(length: int, number: int, report: PackingReport, too_long: str) -> bool | None:
    """True: the row fits. False: it is to be cut. None: it is dropped, and counted so."""
    if length <= report.max_length:
        return True
    if too_long == "error":
        raise ValueError(f"row {number} has {length} tokens, more than max_length = {report.max_length}")
    if too_long == "drop":
        report.dropped_rows += 1
        return None
    return False


def require_keys(row: Row, keys: Sequence[str], number: int) -> None:
    for key in keys:
        if key not in row:
            raise ValueError(f"row {number} has no {key!r}; it has {', '.join(map(repr, row)) or 'nothing'}")


def _pack(
    documents: list, packer: RowPacker, order: str, rng: np.random.Generator | None, report: PackingReport
) -> Iterator:
    if rng is not None:
        documents = [documents[i] for i in rng.permutation(len(documents))]
    for members in plan_packs([len(document) for document in documents], report.max_length, order):
        pack = packer.assemble([documents[m] for m in members])
        report.count_pack(pack)
        yield pack
