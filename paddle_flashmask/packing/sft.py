"""Packing of supervised fine-tuning samples: all at once (map style) or as a stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .attention import DocumentAttention
from .packed import PackedRows, PackedStream, Row, RowPacker, check_choices, fits, pack_all, tokens_and_labels
from .packs import Pack, PackingReport

CAUSAL = DocumentAttention()


@dataclass(frozen=True)
class _Document:
    input_ids: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class _SFTRows(RowPacker):
    too_long: str
    attention: DocumentAttention

    def document(self, row: Row, report: PackingReport) -> _Document | None:
        number = report.rows
        report.rows += 1
        input_ids, labels = tokens_and_labels(row, number)
        whole = fits(len(input_ids), number, report, self.too_long)
        if whole is None:
            return None
        if whole:
            return _Document(input_ids, labels)
        report.truncated_rows += 1
        report.truncated_tokens += len(input_ids) - report.max_length
        return _Document(input_ids[: report.max_length], labels[: report.max_length])

    def assemble(self, documents: list[_Document]) -> Pack:
        lengths = np.array([len(document) for document in documents], dtype=np.int32)
        return Pack(
            input_ids=np.concatenate([document.input_ids for document in documents]),
            labels=np.concatenate([document.labels for document in documents]),
            position_ids=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
            document_lengths=lengths,
            attention=self.attention,
        )


def pack_sft(
    rows: Iterable[Row],
    max_length: int,
    *,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    attention: DocumentAttention = CAUSAL,
) -> PackedRows:
    """Pack tokenised samples into sequences of at most `max_length` tokens.

    Args:
        rows: mappings with `input_ids` and `labels`, integer sequences of one length. Labels are already shifted:
            labels[i] is the token that input_ids[i] predicts (-100: no loss).
        max_length: most tokens of a pack.
        order: see `plan_packs`.
        too_long: treatment of a row with more than max_length tokens: "drop" leaves it out, "truncate" keeps its first
            max_length tokens, "error" raises ValueError. The report counts dropped rows and cut tokens.
        seed: seed of the shuffle before packing; None keeps the order. The same rows and seed give the same packs.
        attention: attention within each document, which the collators encode as the mask.

    Raises:
        ValueError: a row that lacks a key or tokens or whose lengths differ, or an unknown order or rule.
    """
    check_choices(max_length, order, too_long)
    return pack_all(rows, _SFTRows(too_long, attention), max_length, order, seed)


def stream_sft(
    rows: Iterable[Row],
    max_length: int,
    *,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    buffer_rows: int = 500,
    attention: DocumentAttention = CAUSAL,
) -> PackedStream:
    """Pack rows as `pack_sft` does, `buffer_rows` rows at a time, so that memory does not grow with the data.

    Args:
        rows: as for `pack_sft`; re-iterable if the stream is read more than once.
        max_length: as for `pack_sft`, and so are order, too_long, seed and attention.
        buffer_rows: rows that are packed together. A pack never crosses a buffer.
    """
    check_choices(max_length, order, too_long)
    return PackedStream(rows, _SFTRows(too_long, attention), max_length, order, seed, buffer_rows)
