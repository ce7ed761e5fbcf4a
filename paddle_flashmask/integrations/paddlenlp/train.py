"""Training from a configuration file in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from .inputs import read_task
from .processes import is_first
from .run import TrainingResult, run
from .session import training_session


def train(
    config: str | os.PathLike, overrides: Sequence[str] = (), write: Callable[[str], None] = print
) -> TrainingResult:
    """Train from a PaddleNLP JSON file with PaddleNLP's own models, trainers and LoRA; `tasks.TASKS` lists the tasks.

    The operator is enabled meanwhile, unless the configuration asks for neither flash_mask nor use_flash_attention;
    then PaddleNLP's own attention works with the dense mask of the packs. In a run of `python -m
    paddle.distributed.launch` every process calls this.

    overrides: `--key value` words that win over the file. write: gets the lines for the user, in the first process.

    Raises ConfigError for an unreadable file, an unknown key, a contradiction, or a model that does not fit;
    UnsupportedConfigError for what this release does not support; DataError for an unusable data row.
    """
    if not is_first():
        write = _discard
    task, arguments = read_task(config, overrides, write)
    with training_session(arguments, write):
        return run(task, arguments, write)


def _discard(line: str) -> None:
    """Drop what the other processes would write."""
