"""Device and precision of a configuration, fitted to this machine."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError
from .arguments import Arguments


def check_device(values: dict[str, Any]) -> None:
    """Raise ConfigError for a device without kernels of this package, without importing Paddle."""
    if "device" in values and not re.fullmatch(r"cpu|gpu(:\d+)?", str(values["device"])):
        raise ConfigError(f"device = {values['device']!r} must be 'cpu', 'gpu' or 'gpu:' with a number")


def uses_gpu(values: dict[str, Any]) -> bool:
    """Whether the run will be on a GPU. values: the keys that the configuration sets."""
    import paddle

    return paddle.is_compiled_with_cuda() and str(values.get("device", "gpu")).startswith("gpu")


def settle_machine(arguments: Arguments, values: dict[str, Any]) -> None:
    """Change what this machine rules out, with a note for each change.

    values: the keys that the configuration sets. Raises ConfigError for a device that the configuration names and
    this Paddle cannot use.
    """
    _settle_device(arguments, values)
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
