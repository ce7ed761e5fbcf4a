"""What a configuration names, from the task to the trainer. `train`, `inspect` and `verify` all load it here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle_flashmask.packing.counted import counted

from .adapter_files import check_adapter
from .config.arguments import Arguments
from .config.files import Config, name_of
from .config.values import read_values
from .data.packs import PackCollator, PackDataset, Packs, TokenRows
from .data.token_cache import TokenCache
from .data.tokenization import Tokenization, usable_processes
from .errors import ConfigError
from .loading import TokenizerSource, load_model, load_model_config
from .models.attention_dropout import check_attention_dropout
from .models.positions import check_positions
from .processes import is_first
from .tasks import Task, task_of


def read_task(config: Config, overrides: Sequence[str], write: Callable[[str], None]) -> tuple[Task, Arguments]:
    """The task and the arguments of a configuration, with a note where the task was inferred.

    Raises ConfigError and UnsupportedConfigError as `train` does.
    """
    values = read_values(config, overrides)
    task, inferred = task_of(values, name_of(config))
    if inferred:
        write(f"note: task {task.key} ({inferred})")
    return task, task.arguments(values)


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, inside a `training_session`. config: of the model. write: gets the lines for the user."""

    task: Task
    arguments: Arguments
    config: Any
    tokenizer: Any
    write: Callable[[str], None]

    @classmethod
    def load(cls, task: Task, arguments: Arguments, write: Callable[[str], None]) -> RunInputs:
        """Load the model's configuration and the tokenizer, but no weights.

        Raises ConfigError for a lora_path without an adapter, and for a stream without max_steps, because PaddleNLP
        counts num_train_epochs by the length of the data.
        """
        training = arguments.training
        if arguments.data.lazy and training.do_train and training.max_steps <= 0:
            raise ConfigError("lazy = true needs max_steps: the length of a stream is not known before it is read")
        model = arguments.model
        if model.lora and model.lora_path is not None:
            check_adapter(f"lora_path = {model.lora_path!r}", model.lora_path)
        config = load_model_config(arguments, task.max_length(arguments))
        return cls(task, arguments, config, TokenizerSource.of(arguments).load(), write)

    def rows(self, split: str) -> TokenRows:
        """Rows as tokens. split: "train" or "dev"."""
        rows = self.task.rows(self.arguments, self.tokenizer, split)
        rows.reader = self._tokenization(split)
        return rows

    def _tokenization(self, split: str) -> Tokenization:
        """How the rows of a split become tokens. A stream has no bar: training has one."""
        options, training, source = self.arguments.options, self.arguments.training, TokenizerSource.of(self.arguments)
        cache = None
        if options.tokenized_cache:
            cache = TokenCache(Path(options.tokenized_cache), f"{self.task.key}-{split}", source, self.write)
        streamed = self.arguments.data.lazy and split == "train"
        shown = is_first() and not (streamed or training.disable_tqdm)
        return Tokenization(
            source,
            processes=options.tokenize_processes or usable_processes(training.world_size),
            cache=cache,
            bar=f"tokenizing {SPLITS[split]} data" if shown else None,
        )

    def packs(self, rows: TokenRows, split: str) -> Packs:
        """The rows of a split, packed. Only training data is streamed."""
        return self.task.packs(self.arguments, rows, lazy=self.arguments.data.lazy and split == "train")

    def collator(self) -> PackCollator:
        return self.task.collator(self.arguments, self.tokenizer.pad_token_id)

    def settle_model(self) -> None:
        """Check and complete the model's configuration, with notes on its positions."""
        training = self.arguments.training
        if training.do_train:
            check_attention_dropout(self.config, self.arguments.model.flash_mask, training.use_flash_attention)
        self.task.settle_model(self.arguments, self.config)
        for note in check_positions(self.config, self.task.max_length(self.arguments), self.task.max_length_key):
            self.write(f"note: {note}")

    def model(self) -> Any:
        """The model of the settled configuration, without adapters."""
        return load_model(self.arguments, self.config, self.task.model_class(self.config), self.write)

    def trainer(self, model: Any, train_data: Packs | None, eval_data: Packs | None, callbacks: list[Any]) -> Any:
        """The task's trainer of the model, which gets its adapters here."""
        return self.task.trainer(
            self.arguments,
            model,
            args=self.arguments.training,
            train_dataset=train_data,
            eval_dataset=eval_data,
            tokenizer=self.tokenizer,
            data_collator=self.collator(),
            callbacks=callbacks,
        )


SPLITS = {"train": "training", "dev": "evaluation"}
"""Splits of the data in words."""


def packing_line(name: str, data: Packs, rows: TokenRows) -> str:
    """How the rows of the data `name` were packed, and how many were cut or dropped."""
    taken = [f"taken: {text}" for text in [taken_text(rows)] if text]
    return "; ".join([f"{name} data: {data.packs.report}", *cut_text(rows), *taken])


def cut_text(rows: TokenRows) -> list[str]:
    """How many rows lost tokens, and why, in words; nothing where none did."""
    return [f"{counted(rows.cut_rows, 'row')} {rows.cut_means}"] if rows.cut_rows else []


def taken_rows(rows: TokenRows) -> list[dict[str, Any]]:
    """{"path", "weight", "rows", "taken"} of every data set, where there are several or weights: the number of its rows
    and of those in an epoch."""
    parts = rows.data_sets
    if len(parts) == 1 and parts[0].weight == 1:
        return []
    return [{"path": part.path, "weight": part.weight, "rows": part.rows, "taken": part.taken} for part in parts]


def taken_text(rows: TokenRows) -> str:
    """`taken_rows` in words."""
    entries = taken_rows(rows)
    return ", ".join(f"{entry['taken']:,} of {entry['rows']:,} rows of {entry['path']}" for entry in entries)


def check_not_empty(name: str, data: Packs, rows: TokenRows, read: bool = False) -> None:
    """Raise ConfigError where data that is packed already holds no rows, or where all of them were dropped.

    read: whether a stream was read to its end, and is packed thereby.
    """
    report = data.packs.report
    if report.packs or not (read or isinstance(data, PackDataset)):
        return
    files = ", ".join(map(str, rows.files))
    if report.rows:
        raise ConfigError(f"no row of the {name} data is left of {report.rows}: {'; '.join(report.lost)}: {files}")
    raise ConfigError(f"the {name} data holds no rows: {files}")
