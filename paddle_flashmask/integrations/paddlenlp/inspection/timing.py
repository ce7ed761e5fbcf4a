"""The time of training steps, measured without leaving anything behind."""

from __future__ import annotations

import tempfile
from typing import Any

from ..data.packs import Packs
from ..inputs import RunInputs


def time_steps(inputs: RunInputs, data: Packs, steps: int) -> list[float]:
    """Seconds of each of the first `steps` steps of the run, optimizer included.

    The model is loaded as for training. Nothing is saved, logged or evaluated, and `output_dir` is not touched; the
    training arguments of `inputs` are changed for that and serve no other run afterwards.

    Raises what training raises for the model.
    """
    from paddlenlp.trainer import IntervalStrategy, set_seed

    from ..progress import ProgressLines

    training = inputs.arguments.training
    set_seed(training.seed)
    progress = ProgressLines(_discard)
    with tempfile.TemporaryDirectory() as folder:
        _leave_nothing(training, folder, IntervalStrategy.NO)
        training.max_steps = steps
        trainer = inputs.trainer(inputs.model(), data, None, [progress])
        trainer.train()
    return progress.step_seconds


def _leave_nothing(training: Any, folder: str, never: Any) -> None:
    training.output_dir = training.logging_dir = folder
    training.metrics_output_path = None
    training.save_strategy = training.evaluation_strategy = training.logging_strategy = never
    training.do_eval = training.load_best_model_at_end = False
    training.report_to = []
    training.disable_tqdm = True
    training.resume_from_checkpoint = None


def _discard(line: str) -> None:
    """Drop the progress lines."""
