"""Steps and warm-up of a run against its data: what is refused or needs a note."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .saving import planned_steps


def schedule_notes(training: Any, batches: int | None) -> list[str]:
    """Notes on an epoch that is shorter than one step, and on a warm-up that lasts for the whole run.

    training: PaddleNLP's training arguments, before training. batches: of an epoch in one process; None for a stream.

    Raises ConfigError for an epoch without batches (with several processes the trainer does, and names their number)
    or with too few for sequence parallelism.
    """
    if batches == 0 and training.dataset_world_size == 1:
        raise ConfigError(
            f"dataloader_drop_last = true: the training data makes fewer packs than per_device_train_batch_size = "
            f"{training.per_device_train_batch_size}, so an epoch has no batch"
        )
    notes = []
    accumulated = training.gradient_accumulation_steps
    if batches and batches < accumulated:
        if training.sequence_parallel and training.tensor_parallel_degree > 1:
            raise ConfigError(
                f"gradient_accumulation_steps = {accumulated} is above the number of batches in an epoch, {batches}: "
                "sequence_parallel adds up the gradients of its ranks at every micro-batch of that number"
            )
        notes.append(
            f"gradient_accumulation_steps = {accumulated} is above the number of batches in an epoch, {batches}: every "
            "step takes the batches of one epoch"
        )
    steps = planned_steps(training, batches or 0)
    if training.get_warmup_steps(steps) >= steps and training.lr_scheduler_type.value != "constant":
        key = "warmup_steps" if training.warmup_steps > 0 else "warmup_ratio"
        notes.append(
            f"{key} = {getattr(training, key)} covers all {steps} steps of the run: the learning rate does not reach "
            f"learning_rate = {training.learning_rate:g}"
        )
    return notes
