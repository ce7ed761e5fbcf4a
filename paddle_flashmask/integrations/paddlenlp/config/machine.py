"""Device, precision and parallel degrees of a configuration, fitted to this machine and its processes."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError, UnsupportedConfigError
from .arguments import Arguments

# Ways to divide one model over processes. A single process cannot (PaddleNLP resets them silently); several processes
# train data parallel here.
PARALLEL_KEYS = (
    "tensor_parallel_degree",
    "pipeline_parallel_degree",
    "sharding_parallel_degree",
    "context_parallel_degree",
    "sep_parallel_degree",
    "expert_parallel_degree",
)


def check_device(values: dict[str, Any]) -> None:
    """Raise ConfigError for a device without kernels of this package, without importing Paddle."""
    if "device" in values and not re.fullmatch(r"cpu|gpu(:\d+)?", str(values["device"])):
        raise ConfigError(f"device = {values['device']!r} must be 'cpu', 'gpu' or 'gpu:' with a number")


def check_data_parallel(values: dict[str, Any]) -> None:
    """Reject model parallelism over several processes, which PaddleNLP would set up as soon as it parses the values."""
    import paddle.distributed

    processes = paddle.distributed.get_world_size()
    if processes == 1:
        return
    asked = [key for key in PARALLEL_KEYS if _degree(values, key) > 1] + ["sharding"] * bool(values.get("sharding"))
    if asked:
        given = ", ".join(f"{key} = {values[key]!r}" for key in asked)
        raise UnsupportedConfigError(
            f"{given} on {processes} processes is not supported in this release: several processes train data "
            "parallel; set the degrees to 1 and sharding to ''"
        )


def uses_gpu(values: dict[str, Any]) -> bool:
    """Whether the run will be on a GPU. values: the keys that the configuration sets."""
    import paddle

    return paddle.is_compiled_with_cuda() and str(values.get("device", "gpu")).startswith("gpu")


def settle_machine(arguments: Arguments, values: dict[str, Any]) -> None:
    """Change what this machine or the number of processes rules out, with a note for each change.

    values: the keys that the configuration sets. Raises ConfigError for a device that the configuration names and
    this Paddle cannot use.
    """
    _settle_device(arguments, values)
    _settle_parallel(arguments, values)
    if arguments.data.lazy and arguments.training.dataloader_num_workers > 0:
        arguments.notes.append("dataloader_num_workers has no effect with lazy = true: the stream has one reader")


def _settle_device(arguments: Arguments, values: dict[str, Any]) -> None:
    import paddle

    training = arguments.training
    if training.device.startswith("gpu") and not paddle.is_compiled_with_cuda():
        if "device" in values:
            raise ConfigError(f"device = {training.device!r}, but this Paddle is built without CUDA; use 'cpu'")
        training.device = "cpu"
        arguments.notes.append("device: cpu (this Paddle is built without CUDA)")
    if training.device == "cpu" and (training.bf16 or training.fp16):
        training.bf16 = training.fp16 = False
        training.fp16_opt_level = "O1"
        arguments.notes.append("float32 instead of 16 bits: Paddle has no 16-bit matmul on the CPU")


def _settle_parallel(arguments: Arguments, values: dict[str, Any]) -> None:
    if arguments.training.world_size > 1:
        arguments.notes.append(
            f"{arguments.training.world_size} processes, data parallel: each takes batches of its own"
        )
        return
    for key in PARALLEL_KEYS:
        if _degree(values, key) > 1:
            arguments.notes.append(f"{key} = {values[key]} has no effect: there is one process")
    if values.get("sharding"):
        arguments.notes.append(f"sharding = {values['sharding']!r} has no effect: there is one process")


def _degree(values: dict[str, Any], key: str) -> int:
    try:
        return int(values.get(key, 1))
    except (TypeError, ValueError):  # the parser reports it with the expected type
        return 1
