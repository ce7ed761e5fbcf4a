"""Keys about evaluation and saving that PaddleNLP does not follow as they are written."""

from __future__ import annotations

from typing import Any

from ..config.arguments import Arguments
from ..config.switches import WHOLE_SAVES
from ..config.value_types import is_on

_ASYNC_SAVE = "async_save"


def settle_run(arguments: Arguments, values: dict[str, Any]) -> None:
    """Apply the keys as the configuration gives them, with a note for each that has another effect than it seems.

    values: the keys that the configuration sets.
    """
    from paddlenlp.trainer import IntervalStrategy

    training, notes = arguments.training, arguments.notes
    if str(values.get("evaluation_strategy", "")).lower() == "no" and training.do_eval:
        training.evaluation_strategy = IntervalStrategy.NO  # PaddleNLP makes it "steps" if do_eval is true
        notes.append('evaluation_strategy = "no": evaluation only at the end of the run')
        if training.load_best_model_at_end:
            training.load_best_model_at_end = False
            notes.append("load_best_model_at_end has no effect: there is no evaluation to choose by")
    if training.do_eval and "do_eval" in values and not is_on(values["do_eval"]):
        notes.append(f'do_eval is switched on: evaluation_strategy = "{training.evaluation_strategy.value}"')
    if not saves(training):
        notes.append(f"{_benchmark_key(training)} = true: no model and no checkpoint is saved")
    if values.get("unified_checkpoint_config") and not training.unified_checkpoint:
        notes.append("unified_checkpoint_config has no effect: unified_checkpoint is not true")
    elif training.unified_checkpoint and _ASYNC_SAVE in training.unified_checkpoint_config:
        training.unified_checkpoint_config.remove(_ASYNC_SAVE)
        notes.append(f"{_ASYNC_SAVE} of unified_checkpoint_config has no effect: {WHOLE_SAVES}")


def saves(training: Any) -> bool:
    """Whether the run saves its model."""
    return not (training.benchmark or training.autotuner_benchmark)


def nothing_saved(training: Any) -> str:
    """The line at the end of a run that does not save."""
    return f"note: {_benchmark_key(training)} = true: no model was saved to {training.output_dir}"


def _benchmark_key(training: Any) -> str:
    return "benchmark" if training.benchmark else "autotuner_benchmark"
