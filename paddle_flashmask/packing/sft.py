"""Supervised fine-tuning samples to packs: all at once (map style) or as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from .packs import Pack, PackingReport
from .plan import ORDERS, plan_packs

TOO_LONG_RULES = ("drop", "truncate", "error")

Row = Mapping[str, Sequence[int]]
Document = tuple[np.ndarray, np.ndarray]  # input_ids, labels


class PackedSFT(Sequence):
    """Map-style data set of packs; `report` says how the rows were packed."""

    def __init__(self, packs: list[Pack], report: PackingReport):
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
        self, rows: Iterable[Row], max_length: int, order: str, too_long: str, seed: int | None, buffer_rows: int
    ):
        self._rows = rows
        self._max_length = max_length
        self._order = order
        self._too_long = too_long
        self._seed = seed
        self._buffer_rows = buffer_rows
        self.report = PackingReport(max_length)

    def __iter__(self) -> Iterator[Pack]:
        self.report = report = PackingReport(self._max_length)
        rng = None if self._seed is None else np.random.default_rng(self._seed)
        documents: list[Document] = []
        for row in self._rows:
            document = _document(row, report, self._too_long)
            if document is None:
                continue
            documents.append(document)
            if len(documents) == self._buffer_rows:
                yield from _pack(documents, self._order, rng, report)
                documents = []
        yield from _pack(documents, self._order, rng, report)


def pack_sft(
    rows: Iterable[Row],
    max_length: int,
    *,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
) -> PackedSFT:
    """Packs tokenised samples into sequences of at most `max_length` tokens.

    rows: mappings with `input_ids` and `labels`, integer sequences of one length; labels are already shifted, so
        labels[i] is what the model should say after input_ids[i] (-100: no loss).
    order: see `plan_packs`.
    too_long: what happens to a row of more than max_length tokens: "drop" leaves it out, "truncate" keeps its first
        max_length tokens, "error" raises ValueError. The report counts both, so nothing is lost silently.
    seed: shuffles the rows before packing; None keeps their order. The same rows and seed give the same packs.

    Raises ValueError for a row without the two keys, without tokens or with unequal lengths, and for an unknown
    order or rule.
    """
    _check_choices(max_length, order, too_long)
    report = PackingReport(max_length)
    documents = [d for d in (_document(row, report, too_long) for row in rows) if d is not None]
    rng = None if seed is None else np.random.default_rng(seed)
    return PackedSFT(list(_pack(documents, order, rng, report)), report)


def stream_sft(
    rows: Iterable[Row],
    max_length: int,
    *,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    buffer_rows: int = 500,
) -> PackedStream:
    """As `pack_sft`, but packs `buffer_rows` rows at a time, so memory does not grow with the data.

    rows: as for `pack_sft`; re-iterable if the stream is read more than once. A pack never crosses a buffer.
    """
    _check_choices(max_length, order, too_long)
    if buffer_rows < 1:
        raise ValueError(f"buffer_rows must be at least 1; got {buffer_rows}")
    return PackedStream(rows, max_length, order, too_long, seed, buffer_rows)


def _check_choices(max_length: int, order: str, too_long: str) -> None:
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1; got {max_length}")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    if too_long not in TOO_LONG_RULES:
        raise ValueError(f"too_long must be one of {', '.join(TOO_LONG_RULES)}; got {too_long!r}")


def _document(row: Row, report: PackingReport, too_long: str) -> Document | None:
    number = report.rows
    report.rows += 1
    for key in ("input_ids", "labels"):
        if key not in row:
            raise ValueError(f"row {number} has no {key!r}; it has {', '.join(map(repr, row)) or 'nothing'}")
    input_ids = np.asarray(row["input_ids"], dtype=np.int64)
    labels = np.asarray(row["labels"], dtype=np.int64)
    if input_ids.ndim != 1 or input_ids.shape != labels.shape:
        raise ValueError(
            f"row {number}: input_ids and labels must be one-dimensional and equally long; "
            f"got shapes {list(input_ids.shape)} and {list(labels.shape)}"
        )
    excess = len(input_ids) - report.max_length
    if len(input_ids) == 0:
        raise ValueError(f"row {number} has no tokens")
    if excess <= 0:
        return input_ids, labels
    if too_long == "error":
        raise ValueError(f"row {number} has {len(input_ids)} tokens, more than max_length = {report.max_length}")
    if too_long == "drop":
        report.dropped_rows += 1
        return None
    report.truncated_rows += 1
    report.truncated_tokens += excess
    return input_ids[: report.max_length], labels[: report.max_length]


def _pack(
    documents: list[Document], order: str, rng: np.random.Generator | None, report: PackingReport
) -> Iterator[Pack]:
    if rng is not None:
        documents = [documents[i] for i in rng.permutation(len(documents))]
    for members in plan_packs([len(ids) for ids, _ in documents], report.max_length, order):
        lengths = np.array([len(documents[m][0]) for m in members], dtype=np.int32)
        pack = Pack(
            input_ids=np.concatenate([documents[m][0] for m in members]),
            labels=np.concatenate([documents[m][1] for m in members]),
            position_ids=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
            document_lengths=lengths,
        )
        report.count_pack(pack)
        yield pack
