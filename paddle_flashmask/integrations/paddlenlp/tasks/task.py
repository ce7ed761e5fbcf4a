"""The record of a training task: everything that the code around the tasks needs to know about one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddle_flashmask.packing import PackedRows, PackedStream, SFTCollator

from ..config.arguments import (
    Arguments,
    check_common,
    check_lengths,
    parse_groups,
    settle_flash_attention,
    take_backend,
)
from ..config.data_sets import take_data_sets
from ..config.machine import check_device, settle_machine, uses_gpu
from ..config.numbers import check_numbers
from ..config.parallel import check_parallel, is_tensor_parallel, parallel_setup, settle_parallel
from ..config.reporting import check_report_to
from ..config.switches import settle_switches
from ..config.value_types import check_choices
from ..data.packs import Batch, PackCollator, PackDataset, Packs, PackStreamDataset, TokenRows
from ..runs.settle import settle_run


def causal_lm_class(config: Any) -> Any:
    """The class of a language model from its configuration."""
    from paddlenlp.transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


@dataclass(frozen=True)
class Task:
    """One training task, from the values of a configuration to rows, packs, batches and a trainer.

    No step needs a later one; batches, for example, need no trainer:

        arguments = task.arguments(values)
        rows = task.rows(arguments, tokenizer, "train")
        packs = task.packs(arguments, rows, lazy=False)
        batch = task.collator(arguments, tokenizer.pad_token_id)([packs[0], packs[1]])
    """

    key: str
    """PaddleNLP's word for the task: the value of the key `task`, and the word in a configuration file's name."""
    groups: tuple[type, ...]
    """Dataclasses of the configuration keys, as in `Arguments`: model, data, training, options."""
    settle: Callable[[Arguments, dict[str, Any]], None]
    """Checks the keys of this task and applies what they imply, with notes. The second argument: the values given."""
    data_keys: Callable[[Any], Sequence[str]]
    """Keys of the data files that a run with these training arguments reads."""
    max_length_key: str
    """Key of the number of tokens in a full pack."""
    max_prompt_key: str
    """Key of the number of tokens that a prompt may have."""
    rows: Callable[[Arguments, Any, str], TokenRows]
    """Rows as tokens, from the arguments, a tokenizer, and "train" or "dev"."""
    pack: Callable[..., PackedRows]
    """A function of `paddle_flashmask.packing` that packs all rows."""
    stream: Callable[..., PackedStream]
    """A function with the same arguments that packs rows while it reads them."""
    packing_options: Callable[[Arguments], dict[str, Any]]
    """Keyword arguments of `pack` and `stream`."""
    collator_class: type[SFTCollator]
    """The collator of `paddle_flashmask.packing` for these packs."""
    adapt_batch: Callable[[Batch], Batch]
    """Gives a batch of that collator the keys that PaddleNLP's trainer expects."""
    labels: Callable[[Batch], np.ndarray | None]
    """The labels that the loss reads of an adapted batch, int64 [B, S], -100 elsewhere; None where it reads none."""
    trainer: Callable[..., Any]
    """Trainer from the arguments, the model, and the keyword arguments of PaddleNLP's Trainer."""
    figures: Sequence[str]
    """Figures of an evaluation that `metric_for_best_model` may name, without their prefix `eval_`. Some of them depend
    on the loss or the data."""
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Keys of the options that take one of a few values, with these."""
    own_keys: tuple[str, ...] = ()
    """Keys that identify this task; see `task_name`."""
    model_class: Callable[[Any], Any] = causal_lm_class
    """Class of the model, from the model's configuration."""
    settle_model: Callable[[Arguments, Any], None] = lambda arguments, config: None
    """Checks and completes the model's configuration."""

    def arguments(self, values: dict[str, Any]) -> Arguments:
        """Parse, check and settle the values of a configuration.

        Raises ConfigError for unknown keys (naming the nearest known one), wrong types and contradictions,
        UnsupportedConfigError for what this release does not support.
        """
        values = {key: value for key, value in values.items() if key != "task"}
        backend = take_backend(values)
        data_sets = take_data_sets(values)
        check_numbers(values)
        check_report_to(values)
        check_device(values)
        check_choices(values, self.choices)
        check_parallel(values)
        notes = settle_switches(values, uses_gpu(values), is_tensor_parallel(values))
        with parallel_setup(values):
            groups = parse_groups(values, self.groups)
        arguments = Arguments(*groups, notes=notes, backend=backend, data_sets=data_sets)
        check_common(arguments, self.data_keys(arguments.training))
        check_lengths(arguments, self.max_length_key, self.max_prompt_key)
        settle_machine(arguments, values)
        settle_parallel(arguments, values, self.max_length_key)
        settle_flash_attention(arguments)
        settle_run(arguments, values)
        self.settle(arguments, values)
        return arguments

    def max_length(self, arguments: Arguments) -> int:
        """Tokens in a full pack."""
        return getattr(arguments.data, self.max_length_key)

    def packs(self, arguments: Arguments, rows: TokenRows, lazy: bool) -> Packs:
        """Pack the rows; with `lazy` as a stream that keeps no packs.

        Raises DataError with all rows that cannot be used; a stream, when it is read, with the first.
        """
        options = self.packing_options(arguments)
        if lazy:
            return PackStreamDataset(self.stream(rows, self.max_length(arguments), **options))
        return PackDataset(self.pack(rows.checked(), self.max_length(arguments), **options))

    def collator(self, arguments: Arguments, pad_token_id: int) -> PackCollator:
        """Collator from packs to the batch of NumPy arrays that the trainer and the model take."""
        collate = self.collator_class(
            pad_token_id=pad_token_id,
            length=self.max_length(arguments) if arguments.pads_to_max_length else None,
            multiple_of=arguments.data.pad_to_multiple_of or 1,
            mask="columns" if arguments.model.flash_mask else "dense",
        )
        return PackCollator(collate, self.adapt_batch)
