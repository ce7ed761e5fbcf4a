"""What a configuration trains, and the one call that does it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .config import ConfigError, read_values
from .processes import is_first

TASKS = ("sft", "dpo", "rm", "kto")

# Keys that only one task has.
_OWN_KEYS = {
    "sft": ("dataset_name_or_path", "zero_padding", "src_length", "max_length"),
    "dpo": (
        "simpo_gamma",
        "label_smoothing",
        "pref_loss_ratio",
        "sft_loss_ratio",
        "dpop_lambda",
        "ref_model_update_steps",
        "reference_free",
    ),
    "kto": ("desirable_weight", "undesirable_weight"),
}


def train(config: str | os.PathLike, overrides: Sequence[str] = (), write: Callable[[str], None] = print) -> Any:
    """Trains as the PaddleNLP configuration file says: SFT, DPO, a reward model or KTO. Returns a TrainingResult.

    In a run of `python -m paddle.distributed.launch` every process calls this; the first one writes.
    """
    task, reason = task_of(config, overrides)
    if not is_first():
        write = _nothing
    if reason:
        write(f"note: task {task} ({reason})")
    if task == "sft":
        from .sft import run_sft

        return run_sft(config, overrides, write)
    from .alignment import run_alignment

    return run_alignment(task, config, overrides, write)


def task_of(config: str | os.PathLike, overrides: Sequence[str] = ()) -> tuple[str, str]:
    """The task of a configuration, and how it was told where the key `task` does not say it.

    PaddleNLP has one script per task, so its files need no such key: its published dpo.json and rm.json hold the same
    keys. Without `task`, keys that only one task has decide, then the word in the file's name.

    Raises ConfigError where nothing tells.
    """
    values = read_values(config, overrides)
    named = values.get("task")
    if named is not None:
        if named not in TASKS:
            raise ConfigError(f"task = {named!r} must be one of {', '.join(TASKS)}")
        return named, ""
    for task, keys in _OWN_KEYS.items():
        found = [key for key in keys if key in values]
        if found:
            return task, "" if task == "sft" else f"from the key {found[0]}"
    words = [word for word in re.split(r"[^a-z]+", Path(config).stem.lower()) if word in TASKS]
    if len(set(words)) == 1:
        return words[0], "from the file's name"
    if any(key in values for key in ("train_dataset_path", "dev_dataset_path", "max_seq_len", "max_prompt_len")):
        raise ConfigError(
            "DPO, reward-model and KTO configurations hold the same keys: say which one with task = 'dpo', 'rm' or "
            "'kto', or name the file so"
        )
    return "sft", ""


def _nothing(line: str) -> None:
    """What the other processes write."""
