"""Unknown keys, and keys of other tasks, each with the key that it may stand for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..errors import ConfigError
from .keys import OTHER_RELEASES, TASKS_OF, TYPES, UNSUPPORTED_KEYS

# Words of other libraries, releases and tasks; a list where tasks have different keys for one thing.
SYNONYMS = {
    "batch_size": ["per_device_train_batch_size"],
    "cutoff_len": ["max_length", "max_seq_len"],
    "dataset": ["dataset_name_or_path", "train_dataset_path"],
    "dataset_name_or_path": ["train_dataset_path"],
    "dpo_beta": ["beta"],
    "dpo_label_smoothing": ["label_smoothing"],
    "dpo_loss_type": ["loss_type"],
    "epochs": ["num_train_epochs"],
    "eval_batch_size": ["per_device_eval_batch_size"],
    "eval_dataset": ["dev_dataset_path"],
    "eval_datasets": ["dev_dataset_path"],
    "eval_strategy": ["evaluation_strategy"],
    "flash_attn": ["use_flash_attention"],
    "gradient_checkpointing": ["recompute"],
    "kto_chosen_weight": ["desirable_weight"],
    "kto_rejected_weight": ["undesirable_weight"],
    "lora_dim": ["lora_rank"],
    "lora_r": ["lora_rank"],
    "lr": ["learning_rate"],
    "max_length": ["max_seq_len"],
    "max_prompt_len": ["src_length"],
    "max_prompt_length": ["max_prompt_len", "src_length"],
    "max_seq_len": ["max_length"],
    "max_seq_length": ["max_length", "max_seq_len"],
    "model": ["model_name_or_path"],
    "neat_packing": ["greedy_zero_padding"],
    "num_epochs": ["num_train_epochs"],
    "packing": ["zero_padding", "greedy_zero_padding"],
    "pref_beta": ["beta"],
    "pref_loss": ["loss_type"],
    "src_length": ["max_prompt_len"],
    "train_batch_size": ["per_device_train_batch_size"],
    "train_dataset_path": ["dataset_name_or_path"],
    "train_datasets": ["train_dataset_path", "dataset_name_or_path"],
    "val_dataset": ["dev_dataset_path"],
    "zero_padding": ["greedy_zero_padding"],
}


def keys_of(task: str) -> frozenset[str]:
    """All keys of a task."""
    return frozenset(key for key in TYPES if task in TASKS_OF.get(key, (task,)))


def check_known(keys: Iterable[str], known: frozenset[str]) -> None:
    """Raise ConfigError for the keys that are not known, each with a known one that it may stand for.

    known: the keys of a task.
    """
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ConfigError("; ".join(_unknown_key(key, known - UNSUPPORTED_KEYS) for key in unknown))


def _unknown_key(key: str, known: frozenset[str]) -> str:
    """Suggest a key only where it means the same or is a likely typing error."""
    near = [word for word in SYNONYMS.get(key, ()) if word in known]
    if key in TASKS_OF:
        return f"{key!r} is a key of {', '.join(TASKS_OF[key])}" + (f"; use {near[0]!r} here" if near else " alone")
    if key in OTHER_RELEASES:
        use = f"; use {near[0]!r}" if near else ""
        return f"{key!r} is no key of PaddleNLP 3.0.0b4, only of other releases{use}"
    near = near or difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.75)
    return f"unknown key {key!r}" + (f"; the nearest known one is {near[0]!r}" if near else "")
