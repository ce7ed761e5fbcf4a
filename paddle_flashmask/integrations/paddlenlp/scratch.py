"""A trainer that leaves nothing behind, for measurements and checks before a run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

from .data.packs import Packs
from .inputs import RunInputs


@contextlib.contextmanager
def scratch_trainer(inputs: RunInputs, data: Packs, callbacks: list[Any]) -> Iterator[Any]:
    """The trainer of a run on training data, with the model loaded as for training.

    It saves, logs and evaluates nothing, and `output_dir` is not touched. For that the training arguments of `inputs`
    are changed, so they serve no other run afterwards. Raises what training raises for the model.
    """
    from paddlenlp.trainer import IntervalStrategy, set_seed

    training = inputs.arguments.training
    set_seed(training.seed)
    with tempfile.TemporaryDirectory() as folder:
        training.output_dir = training.logging_dir = folder
        training.metrics_output_path = training.resume_from_checkpoint = None
        for when in ("save_strategy", "evaluation_strategy", "logging_strategy"):
            setattr(training, when, IntervalStrategy.NO)
        training.do_eval = training.load_best_model_at_end = False
        training.report_to = []
        training.disable_tqdm = True
        yield inputs.trainer(inputs.model(), data, None, callbacks)
