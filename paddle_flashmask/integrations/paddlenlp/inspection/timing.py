"""The time of training steps."""

from __future__ import annotations

from ..data.packs import Packs
from ..inputs import RunInputs
from ..scratch import scratch_trainer


def time_steps(inputs: RunInputs, data: Packs, steps: int) -> list[float]:
    """Seconds of each of the first `steps` steps of the run, optimizer included. Changes and raises as
    `scratch_trainer`."""
    from ..progress import ProgressLines

    progress = ProgressLines(_discard)
    inputs.arguments.training.max_steps = steps
    with scratch_trainer(inputs, data, [progress]) as trainer:
        trainer.train()
    return progress.step_seconds


def _discard(line: str) -> None:
    """Drop the progress lines."""
