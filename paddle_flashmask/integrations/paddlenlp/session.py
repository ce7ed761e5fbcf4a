"""The process state of a run: notes, the operator, environment and device."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import paddle

import paddle_flashmask

from .config.arguments import Arguments
from .context_parallel.models import divided_models
from .gloo import gloo_collectives
from .processes import context_group


@contextlib.contextmanager
def training_session(arguments: Arguments, write: Callable[[str], None]) -> Iterator[None]:
    """Write the notes, enable the operator if the configuration needs it, and set the device and the environment."""
    for note in arguments.notes + _thread_notes(arguments.training):
        write(f"note: {note}")
    wants_flash = arguments.model.flash_mask or arguments.training.use_flash_attention
    wants_operator = wants_flash and arguments.backend == "paddle_flashmask"
    operator = paddle_flashmask.enabled() if wants_operator else contextlib.nullcontext()
    # PaddleNLP's switch that replaces every dense mask by a plain causal one: packed documents would see each other.
    os.environ["USE_CASUAL_MASK"] = "False"
    # Parameter names start afresh, because an optimizer state on disk has those of the first model of a process.
    on_gloo = arguments.training.use_hybrid_parallel and arguments.training.device == "cpu"
    collectives = gloo_collectives() if on_gloo else contextlib.nullcontext()
    group = context_group()
    context = contextlib.nullcontext() if group is None else divided_models(group)
    with operator, collectives, context, paddle.utils.unique_name.guard():
        paddle.set_device(arguments.training.device)
        yield


def _thread_notes(training: Any) -> list[str]:
    """A note on idle cores: importing Paddle sets an unset OMP_NUM_THREADS to 1, for its operators and for ours."""
    cores = len(os.sched_getaffinity(0))
    if training.device != "cpu" or training.world_size > 1 or cores == 1 or os.environ.get("OMP_NUM_THREADS") != "1":
        return []
    return [f"1 thread of {cores} cores; to use more set OMP_NUM_THREADS before the start (Paddle's default is 1)"]
