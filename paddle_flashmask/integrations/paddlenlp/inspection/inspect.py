"""The facts of a configuration and its first batches, without its weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from paddle_flashmask.masks import ColumnMask
from paddle_flashmask.packing import TreeReport
from paddle_flashmask.packing.counted import counted

from ..config.files import Config
from ..data.packs import Batch, Packs, PackStreamDataset, TokenRows
from ..decoding import spans_of
from ..documents import batches_of, documents_of
from ..inputs import SPLITS, RunInputs, check_not_empty, cut_text, read_task, taken_text
from ..runs.saving import planned_steps
from ..runs.schedule import schedule_notes
from ..session import training_session
from .statistics import DataStatistics, count
from .timing import time_steps

Spans = list[tuple[str, bool]]
"""Text with whether it is learned."""


@dataclass(frozen=True)
class DecodedPart:
    """name: of the `Part`. tokens: how many. spans: its text."""

    name: str
    tokens: int
    spans: Spans


@dataclass(frozen=True)
class DecodedBatch:
    """packs: the documents of every pack, each as parts. mask: of the whole batch, one batch row per pack."""

    packs: list[list[list[DecodedPart]]]
    mask: ColumnMask


@dataclass(frozen=True)
class Inspection:
    """facts: (name, text) in the order to show them. batches: the first ones. task: its key."""

    task: str
    facts: list[tuple[str, str]]
    batches: list[DecodedBatch]


def inspect(
    config: Config,
    overrides: Sequence[str] = (),
    *,
    batches: int = 1,
    steps: int = 0,
    write: Callable[[str], None] = print,
) -> Inspection:
    """Read a configuration and pack its data as `train` would, and decode the first batches.

    overrides, write: as for `train`. batches: how many to decode. steps: training steps to run for an estimate of the
    time; 0 needs no weights. `output_dir` is neither made nor changed.

    Raises what `train` raises for a configuration, its data and, with steps, its model.
    """
    task, arguments = read_task(config, overrides, write)
    with training_session(arguments, write):
        inputs = RunInputs.load(task, arguments, write)
        inputs.settle_model()
        training = arguments.training
        splits = ["train"] * training.do_train + ["dev"] * training.do_eval
        facts = [("task", task.key), ("model", _model(inputs))]
        shown: list[list[Any]] = []
        for split in splits:
            rows = inputs.rows(split)
            data = inputs.packs(rows, split)
            first, statistics = _read(data, split, training, batches)
            check_not_empty(SPLITS[split], data, rows, read=True)
            shown = shown or first
            facts += _data_facts(split, rows, data, statistics)
            if split == "train":
                epoch, stream = _batches(data, statistics, training), isinstance(data, PackStreamDataset)
                for note in schedule_notes(training, None if stream else epoch):
                    write(f"note: {note}")
                # A stream without a whole step is refused by training; of other data an epoch is at least one step.
                per_epoch = max(epoch // training.gradient_accumulation_steps, 0 if stream else 1)
                total = planned_steps(training, epoch)
                facts += _step_facts(per_epoch, total, training)
                if steps:
                    facts.append(("time", _time(time_steps(inputs, data, steps), total, task.max_length(arguments))))
        return Inspection(task.key, facts, [_decoded(inputs, batch) for batch in shown])


def _model(inputs: RunInputs) -> str:
    tokenizer = inputs.tokenizer
    names = f"{inputs.config.architectures[0]}, {type(tokenizer).__name__} of {len(tokenizer):,} tokens"
    adapters = ", LoRA" if inputs.arguments.model.lora else ""
    return f"{inputs.arguments.model.model_name_or_path}: {names}{adapters}"


def _read(data: Packs, split: str, training: Any, batches: int) -> tuple[list[list[Any]], DataStatistics]:
    """The first batches, and the statistics of all packs. A stream is read once for both."""
    if not isinstance(data, PackStreamDataset):
        return list(itertools.islice(batches_of(data, split, training), batches)), count(data.packs)
    first: list[list[Any]] = []

    def packs():
        for batch in batches_of(data, split, training):
            if len(first) < batches:
                first.append(batch)
            yield from batch

    statistics = count(packs())
    return first, statistics


def _data_facts(split: str, rows: TokenRows, data: Packs, statistics: DataStatistics) -> list[tuple[str, str]]:
    name, lengths, report = SPLITS[split], statistics.lengths, data.packs.report
    lost = [*cut_text(rows), *report.lost]
    packs = counted(report.packs, "pack", ",")
    shared = []
    if isinstance(report, TreeReport):
        shared = [("sharing", f"{report.sequence_tokens:,} tokens of rows in {counted(report.trees, 'tree', ',')}")]
    return [
        (f"{name} data", ", ".join(map(str, rows.files))),
        *[("taken", text) for text in [taken_text(rows)] if text],
        ("rows", f"{report.packed_rows:,} of {report.rows:,} in {packs} of {report.max_length:,}"),
        ("cut, dropped", "; ".join(lost) or "nothing"),
        ("efficiency", f"{report.efficiency:.1%}: {report.tokens:,} tokens in {report.capacity:,} places"),
        ("documents", f"{_range(lengths)}; {len(lengths) / report.packs:.1f} in a pack"),
        *shared,
        ("learned", f"{statistics.learned:,} of {statistics.tokens:,} tokens"),
        ("mask", f"{report.mask_density:.1%} of the pairs of a full pack are visible"),
    ]


def _range(lengths: np.ndarray) -> str:
    return f"{lengths.min()} to {lengths.max()} tokens, median {np.median(lengths):.0f}"


def _batches(data: Packs, statistics: DataStatistics, training: Any) -> int:
    """Batches of an epoch in one process."""
    if isinstance(data, PackStreamDataset):
        return statistics.packs // training.per_device_train_batch_size
    return sum(1 for _ in batches_of(data, "train", training))


def _step_facts(per_epoch: int, total: int, training: Any) -> list[tuple[str, str]]:
    packs, accumulated = training.per_device_train_batch_size, training.gradient_accumulation_steps
    epochs = f", {total / per_epoch:.2f} epochs" if per_epoch else ""
    return [
        ("packs in a step", f"{packs * accumulated}: gradient_accumulation_steps x per_device_train_batch_size"),
        ("steps", f"{per_epoch:,} per epoch; {total:,} in the run{epochs}"),
    ]


def _time(seconds: list[float], total: int, length: int) -> str:
    """The first step is left out if there are others: it also allocates."""
    typical = median(seconds[1:] or seconds)
    return (
        f"{typical:.3f} s per step (median of {len(seconds)}); about {_span(typical * total)} for {total} steps, "
        "without loading, evaluation and saving"
    )


def _span(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{hours:.1f} hours"


def _decoded(inputs: RunInputs, packs: list[Any]) -> DecodedBatch:
    documents = [
        [
            [DecodedPart(part.name, len(part.tokens), spans_of(inputs.tokenizer, part)) for part in document]
            for document in documents_of(pack)
        ]
        for pack in packs
    ]
    return DecodedBatch(documents, mask_of(inputs.collator()(packs), inputs.config))


def mask_of(batch: Batch, config: Any) -> ColumnMask:
    """The mask of a collated batch, from its column indices or its dense mask. config: the model's, settled."""
    columns = batch.get("attn_mask_startend_row_indices")
    if columns is None:
        return ColumnMask.from_dense(batch["attention_mask"])
    columns = columns[..., None] if columns.ndim == 3 else columns
    return ColumnMask(columns, getattr(config, "flash_mask_causal", True), columns.shape[2])
