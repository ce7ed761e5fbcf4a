"""One process of a launch that takes one training step per configuration and saves its loss and gradients.

`python average_rank.py CONFIG...`. `step_of` does the same within a test.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import paddle
import paddle.distributed as dist
from paddlenlp.utils.log import logger

from paddle_flashmask.integrations.paddlenlp.tasks import preference
from paddle_flashmask.integrations.paddlenlp.train import train
from paddle_flashmask.packing import packed

PACKS = 4
REFERENCE_SCALE = 1.1


@dataclass(frozen=True)
class Step:
    """parameters, gradients: arrays in the order of the model's parameters."""

    loss: float
    evaluation: dict[str, float]
    metrics: dict[str, float]
    parameters: list[np.ndarray]
    gradients: list[np.ndarray]


def step_of(config: Path) -> Step:
    """Train from the configuration, with the rows divided at random over four packs, otherwise for each batch size.

    The reference of DPO and KTO differs from the trained model, so that rewards and the reference point are not 0.
    """
    seen: list[tuple[list, list]] = []
    update, copy = paddle.optimizer.AdamW.step, preference._frozen_copy
    values = json.loads(config.read_text())
    seed = 10 * values["per_device_train_batch_size"] + values["gradient_accumulation_steps"]

    def record(optimizer):
        parameters = optimizer._parameter_list
        seen.append(([p.numpy() for p in parameters], [p.grad.numpy() for p in parameters]))
        update(optimizer)

    def other_reference(model):
        reference = copy(model)
        for parameter in reference.parameters():
            parameter.set_value(parameter * REFERENCE_SCALE)
        return reference

    def at_random(lengths, max_length, order):
        rng = random.Random(seed + len(lengths))
        rows = rng.sample(range(len(lengths)), len(lengths))
        edges = [0, *sorted(rng.sample(range(1, len(lengths)), PACKS - 1)), len(lengths)]
        return [rows[start:end] for start, end in zip(edges[:-1], edges[1:], strict=True)]

    with (
        mock.patch.object(paddle.optimizer.AdamW, "step", record),
        mock.patch.object(preference, "_frozen_copy", other_reference),
        mock.patch.object(packed, "plan_packs", at_random),
    ):
        result = train(config, write=lambda line: None)
    ((parameters, gradients),) = seen
    return Step(result.losses[0][1], result.evaluations[-1], result.metrics[0], parameters, gradients)


if __name__ == "__main__":
    logger.set_level("ERROR")
    for name in sys.argv[1:]:
        step = step_of(Path(name))
        if dist.get_rank() == 0:
            Path(name).with_suffix(".pickle").write_bytes(pickle.dumps(vars(step)))
    dist.barrier()
    os._exit(0)  # Gloo's threads sometimes abort while the interpreter ends
