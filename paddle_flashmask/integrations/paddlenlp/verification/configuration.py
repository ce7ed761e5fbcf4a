"""Verification of a configuration with its own model and data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from paddle_flashmask.packing import AnswerTreePack

from ..config.arguments import Arguments
from ..config.files import Config
from ..data.packs import Batch, Packs, TokenRows
from ..documents import batches_of
from ..inputs import RunInputs, check_not_empty, read_task
from ..scratch import scratch_trainer
from ..session import training_session
from .layout import documents_in, segments_of
from .report import Report, joined
from .texts import AnswerTexts
from .verify import CAUSAL, check_structure, verify

SEARCHED = 50
"""Batches among which those with several documents are preferred."""


def verify_config(
    config: Config,
    overrides: Sequence[str] = (),
    *,
    batches: int = 2,
    write: Callable[[str], None] = print,
) -> Report:
    """Check a run before it starts: the first batches on the model as `verify` does, the labels of all data.

    The data is that of training, or of evaluation where nothing is trained. `output_dir` is not touched.

    overrides, write: as for `train`. batches: how many run on the model, of the first those with several documents; 0
    needs no weights.

    Raises what `train` raises for a configuration, its data and its model.
    """
    task, arguments = read_task(config, overrides, write)
    with training_session(arguments, write):
        inputs = RunInputs.load(task, arguments, write)
        inputs.settle_model()
        split = "train" if arguments.training.do_train else "dev"
        rows = inputs.rows(split)
        data = inputs.packs(rows, split)
        check_not_empty(split, data, rows)
        whole = joined(_data_reports(inputs, rows, data))
        if not batches:
            return whole
        chosen = _first_with_neighbours(batches_of(data, split, arguments.training), batches)
        with scratch_trainer(inputs, data, []) as trainer, trainer.autocast_smart_context_manager():
            on_model = joined(_model_reports(inputs, trainer.model, chosen))
    names = {check.name for check in whole.checks}
    return Report((*(check for check in on_model.checks if check.name not in names), *whole.checks))


def _first_with_neighbours(batches: Iterator[list[Any]], count: int) -> list[list[Any]]:
    """The first batches, those with several documents before others, since a document alone cannot leak."""
    seen = itertools.islice(batches, max(count, SEARCHED))
    return sorted(seen, key=lambda packs: sum(len(pack.document_lengths) for pack in packs) < 2)[:count]


def _model_reports(inputs: RunInputs, model: Any, batches: list[list[Any]]) -> Iterator[Report]:
    collate = inputs.collator()
    for packs in batches:
        batch = collate(packs)
        documents = [documents_in(pack) for pack in packs]
        yield verify(model, _with_labels(inputs, batch), documents, attention=_attention(inputs.arguments))


def _data_reports(inputs: RunInputs, rows: TokenRows, data: Packs) -> Iterator[Report]:
    """Positions, labels and their texts, pack by pack as they are collated for training."""
    collate, texts = inputs.collator(), AnswerTexts(inputs.tokenizer, rows)
    for pack in data.packs:
        batch, documents = _with_labels(inputs, collate([pack])), [documents_in(pack)]
        if isinstance(pack, AnswerTreePack):
            tokens = batch["labels" if pack.has_labels else "input_ids"][0]
            texts.add_answers(tokens[places] for places in pack.places_of_answers())
        else:
            texts.add(batch["input_ids"], batch.get("labels"), segments_of(documents, batch["input_ids"].shape[1]))
        yield Report(tuple(check_structure(batch, documents)))
    yield Report((texts.check(rows.cut_rows + data.packs.report.truncated_rows),))


def _with_labels(inputs: RunInputs, batch: Batch) -> Batch:
    labels = inputs.task.labels(batch)
    return batch if labels is None else {**batch, "labels": labels}


def _attention(arguments: Arguments) -> Any:
    """The attention within documents: SFT alone has a choice."""
    attention = getattr(arguments.options, "attention", None)
    return CAUSAL if attention is None else attention()
