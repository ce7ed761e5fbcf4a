"""The end of training where evaluations get no better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlenlp.trainer import TrainerCallback

from ..errors import ConfigError
from .atomic import read_json


@dataclass(frozen=True)
class StoppingRule:
    """Training ends after `patience` evaluations in a row without improvement.

    threshold: an improvement is a value that is better than the best one before by more than this. metric: the figure
    that is compared, with the prefix "eval_". greater: whether a greater value is better.
    """

    patience: int
    threshold: float
    metric: str
    greater: bool

    def without_improvement(self, values: Sequence[float]) -> int:
        """Evaluations since the last improvement. values: of all evaluations, the last one last. NaN is no value."""
        best, count = math.nan, 0
        for value in values:
            better = math.isnan(best) or (value > best if self.greater else value < best)
            improved = better and not abs(value - best) <= self.threshold
            count = 0 if improved else count + 1
            best = value if better else best
        return count

    def best(self, evaluations: Sequence[tuple[int, float]]) -> tuple[int, float]:
        """The (step, value) with the best value, the first of equal ones."""
        known = [(step, value) for step, value in evaluations if not math.isnan(value)] or list(evaluations)
        return (max if self.greater else min)(known, key=lambda evaluation: evaluation[1])


def stopping_rule(arguments: Any) -> StoppingRule | None:
    """The rule of a configuration, or None where early_stopping_patience is not set."""
    options, training = arguments.options, arguments.training
    if options.early_stopping_patience is None:
        return None
    metric = (training.metric_for_best_model or "loss").removeprefix("eval_")
    greater = training.greater_is_better
    return StoppingRule(
        options.early_stopping_patience,
        options.early_stopping_threshold,
        f"eval_{metric}",
        metric != "loss" if greater is None else greater,
    )


def check_metric(metrics: dict[str, float], metric: str) -> None:
    """Raise ConfigError where an evaluation lacks the metric, because its loss or its data has no such figure.

    metrics: of the evaluation, with the prefix "eval_". metric: with or without it.
    """
    name = metric.removeprefix("eval_")
    if f"eval_{name}" not in metrics:
        speed = ("runtime", "samples_per_second", "steps_per_second")
        names = sorted(key.removeprefix("eval_") for key in metrics if key.startswith("eval_"))
        raise ConfigError(
            f"metric_for_best_model = {name!r}: the evaluations of this run have no such figure, only "
            f"{', '.join(key for key in names if key not in speed)}"
        )


class EarlyStopping(TrainerCallback):
    """Ends training by a `StoppingRule`, as PaddleNLP's EarlyStoppingCallback does.

    PaddleNLP's counts in memory, so a resumed run would start counting again, and it compares with the best evaluation
    that was saved, so it needs `load_best_model_at_end`. Here the evaluations are kept in the trainer's state, which
    every checkpoint has. PaddleNLP empties that list at every log.

    evaluations: (step, value) of every evaluation of the run. ended: whether the rule has ended training.
    """

    def __init__(self, rule: StoppingRule):
        self.rule = rule
        self.evaluations: list[tuple[int, float]] = []
        self.ended = False
        self._training = False

    def has_ended(self, checkpoint: Path) -> bool:
        """Whether the rule ended the run that left this checkpoint."""
        state = read_json(checkpoint / "trainer_state.json") or {}
        values = [value for _, value in self._evaluations_of(state.get("log_history") or [])]
        return self.rule.without_improvement(values) >= self.rule.patience

    def on_train_begin(self, args, state, control, **kwargs):
        self.evaluations = self._evaluations_of(state.log_history)
        self._training = True
        self._update(state)

    def on_log(self, args, state, control, **kwargs):
        if self._training:
            state.log_history = [{"step": step, self.rule.metric: value} for step, value in self.evaluations]

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if not self._training:
            return
        check_metric(metrics, self.rule.metric)
        self.evaluations.append((state.global_step, float(metrics[self.rule.metric])))
        self.on_log(args, state, control)
        self._update(state)
        if self.ended:
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self._training = False

    def line(self, step: int, steps: int) -> str:
        """What ended the run after `step` of `steps`."""
        best_step, best = self.rule.best(self.evaluations)
        least = f" by more than {self.rule.threshold:g}" if self.rule.threshold else ""
        times = self.rule.without_improvement([value for _, value in self.evaluations])
        return (
            f"stopped early after step {step} of {steps}: {self.rule.metric} has not improved{least} in {times} "
            f"evaluations; the best was {best:.6f} after step {best_step}"
        )

    def _evaluations_of(self, history: list[dict[str, Any]]) -> list[tuple[int, float]]:
        return [(entry["step"], entry[self.rule.metric]) for entry in history if self.rule.metric in entry]

    def _update(self, state: Any) -> None:
        values = [value for _, value in self.evaluations]
        self.ended = state.global_step < state.max_steps and (
            self.rule.without_improvement(values) >= self.rule.patience
        )
