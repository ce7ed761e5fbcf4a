"""What a run must share with the run that it continues, so that it reads the rest of the same data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..config.arguments import Arguments
from ..config.parallel import context_parallel_degree
from ..data.data_sets import DataSetRows
from ..digests import sha256_of
from ..errors import ConfigError
from ..loading import TokenizerSource

_KEYS = (
    "src_length",
    "max_length",
    "max_seq_len",
    "max_prompt_len",
    "zero_padding",
    "greedy_zero_padding",
    "lazy",
    "chat_template",
    "attention_mask_type",
    "attention_window_size",
    "share_prefixes",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "seed",
)
_MODEL_KEYS = ("lora", "lora_rank")
WEIGHTS = "data_weights"
TOKENIZER = "tokenizer"
_TOKENIZER_FILES = ("*token*", "*vocab*", "*merges*", "*.model", "chat_template*")
LAYOUT = "layout"
"""Which part of the model and the optimizer each process holds. Only some checkpoints depend on it."""


def identity_of(task: str, arguments: Arguments, data_sets: Sequence[DataSetRows]) -> dict[str, Any]:
    """The task, the contents of the training files and of the tokenizer's, the weights of the data sets, and the keys
    that decide the model's shape and which rows are in which step."""
    data = [[sha256_of(path) for path in part.files] for part in data_sets]
    identity = {"task": task, "data": data[0] if len(data) == 1 else data}
    identity[WEIGHTS] = [part.weight for part in data_sets]
    identity[TOKENIZER] = _tokenizer(TokenizerSource.of(arguments))
    groups = (arguments.data, arguments.training, arguments.options, arguments.model)
    for key in (*_KEYS, *_MODEL_KEYS):
        holder = next((group for group in groups if hasattr(group, key)), None)
        if holder is not None:
            identity[key] = getattr(holder, key)
    if not identity["lora"]:
        identity.pop("lora_rank")
    identity["processes"] = arguments.training.dataset_world_size
    identity[LAYOUT] = _layout(arguments.training)
    return identity


def check_identity(name: str, old: dict[str, Any], new: dict[str, Any], training: Any, write: Callable) -> None:
    """Compare a run with the one that it would continue. name: of the checkpoint or the folder.

    Raises ConfigError with the differences. With ignore_data_skip, which reads the data from the start, differences
    in the data and the batches are only noted.
    """
    if "data" in old:
        old = {WEIGHTS: [1.0], **old}  # before data sets had weights
    differing = [key for key in old if key in new and old[key] != new[key] and key != LAYOUT]
    if not differing:
        return
    differences = ", ".join(_difference(key, old[key], new[key]) for key in differing)
    if training.ignore_data_skip and not {"task", *_MODEL_KEYS} & set(differing):
        write(f"note: {name} is of a run with {differences}; ignore_data_skip: the data is read from the start")
        return
    raise ConfigError(
        f"{name} is of a run with {differences}: it cannot be continued. Set these keys back, choose another "
        "output_dir, or set overwrite_output_dir to start afresh"
    )


def _tokenizer(source: TokenizerSource) -> list[str] | None:
    """SHA-256 of the files of the tokenizer and of its chat template; None where it is not in a folder."""
    folder = Path(source.name)
    if not folder.is_dir():
        return None
    own = {path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}
    return [sha256_of(path) for path in (*sorted(own), *source.template_files())]


def _layout(training: Any) -> dict[str, Any]:
    keys = ("tensor_parallel_degree", "sharding_parallel_degree")
    degrees = {key: max(getattr(training, key), 1) for key in keys}
    if context_parallel_degree(training) > 1:
        degrees["context_parallel_degree"] = context_parallel_degree(training)
    return {**degrees, "sharding": "".join(option.value for option in training.sharding)}


def _difference(key: str, old: Any, new: Any) -> str:
    contents = {"data": "other training data", TOKENIZER: "another tokenizer or chat template"}
    return contents.get(key) or f"{key} = {old!r} (now {new!r})"
