"""Training from a configuration in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .config.files import Config
from .config.values import check_early

if TYPE_CHECKING:
    from paddlenlp.trainer import TrainerCallback

    from .run import TrainingResult


def train(
    config: Config,
    overrides: Sequence[str] = (),
    *,
    callbacks: Sequence[TrainerCallback] = (),
    write: Callable[[str], None] = print,
) -> TrainingResult:
    """Train with PaddleNLP's own models, trainers and LoRA; `tasks.TASKS` lists the tasks.

    The operator is enabled meanwhile, unless the configuration asks for neither flash_mask nor use_flash_attention;
    then PaddleNLP's own attention works with the dense mask of the packs. In a run of `python -m
    paddle.distributed.launch` every process calls this.

    Args:
        config: the path of a JSON or YAML file with PaddleNLP's keys, or a mapping of the keys to Python values. A
            mapping has no file name, so it needs the key `task` where its keys fit several tasks.
        overrides: `--key value` words that win over the configuration.
        callbacks: instances of PaddleNLP's `TrainerCallback`, called after those of the run itself.
        write: gets the lines for the user, in the first process.

    Raises:
        ConfigError: an unreadable file, an unknown key, a contradiction, or a model that does not fit. What the
            configuration shows by itself is raised before Paddle is imported.
        UnsupportedConfigError: what this release does not support.
        DataError: an unusable data row.
        RunError: a run that stops before its end.
    """
    check_early(config, overrides)

    from .inputs import read_task
    from .processes import is_first
    from .run import run
    from .session import training_session

    if not is_first():
        write = _discard
    task, arguments = read_task(config, overrides, write)
    with training_session(arguments, write):
        return run(task, arguments, write, callbacks)


def _discard(line: str) -> None:
    """Drop what the other processes would write."""
