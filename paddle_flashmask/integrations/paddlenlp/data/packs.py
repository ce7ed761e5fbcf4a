"""Packs as data sets of PaddleNLP's trainer, and batches under PaddleNLP's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import paddle

from paddle_flashmask.packing import PackedRows, PackedStream

from .data_sets import DataSetRows
from .line_tokens import Reader

Batch = dict[str, np.ndarray]


class TokenRows(Protocol):
    """Rows as tokens, in the form that the task's packing function takes. Iterating reads the files again.

    Iterating stops with a DataError at the first row that cannot be used.

    cut_rows: rows that lost tokens in the last pass, as `cut_means` goes on.
    reader: reads the rows; see `line_tokens`.
    """

    cut_rows: int
    cut_means: ClassVar[str]
    reader: Reader | None

    @property
    def files(self) -> Sequence[Path]: ...

    @property
    def data_sets(self) -> Sequence[DataSetRows]: ...

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def checked(self) -> Iterator[dict[str, Any]]:
        """All rows, for packs in memory: a DataError after the last row lists those that cannot be used."""


class PackDataset(paddle.io.Dataset):
    """Packs in memory, as a map-style data set."""

    def __init__(self, packs: PackedRows):
        self.packs = packs

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> Any:
        return self.packs[index]


class PackStreamDataset(paddle.io.IterableDataset):
    """Packs made while they are read; every pass reads the files again."""

    def __init__(self, packs: PackedStream):
        self.packs = packs

    def __iter__(self) -> Iterator[Any]:
        return iter(self.packs)


Packs = PackDataset | PackStreamDataset


@dataclass(frozen=True)
class PackCollator:
    """A collator of `paddle_flashmask.packing`, and what adapts its batches to PaddleNLP."""

    collate: Callable[[list[Any]], Batch]
    adapt: Callable[[Batch], Batch]

    def __call__(self, packs: list[Any]) -> Batch:
        return self.adapt(self.collate(packs))


def with_paddlenlp_names(batch: Batch) -> Batch:
    """Rename the keys of a packing collator in place: column indices, int32 [B, 1, S, n], become
    `attn_mask_startend_row_indices` (int32 [B, 1, S] for n = 1), and response indices `response_indexs`."""
    columns = batch.pop("startend_row_indices", None)
    if columns is not None:
        batch["attn_mask_startend_row_indices"] = columns[..., 0] if columns.shape[-1] == 1 else columns
    if "response_indices" in batch:
        batch["response_indexs"] = batch.pop("response_indices")
    return batch


def labels_within(labels: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """labels, int64 [B, S], within the spans, [N, 3]: (batch row, start, end); 0 elsewhere, as PaddleNLP expects."""
    kept = np.zeros_like(labels)
    for row, start, end in spans:
        kept[row, start:end] = labels[row, start:end]
    return kept
