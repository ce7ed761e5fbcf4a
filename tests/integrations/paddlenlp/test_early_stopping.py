"""Runs end where evaluations get no better, also across restarts; the metric is checked before training."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paddlenlp.trainer import EarlyStoppingCallback, TrainerCallback, TrainerControl
from run_folders import SAVING, weights_in

from paddle_flashmask.integrations.paddlenlp import ConfigError, train
from paddle_flashmask.integrations.paddlenlp.config.values import check_early
from paddle_flashmask.integrations.paddlenlp.errors import RunError
from paddle_flashmask.integrations.paddlenlp.runs.checkpoints import defect
from paddle_flashmask.integrations.paddlenlp.runs.early_stopping import EarlyStopping, StoppingRule
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS

LOSSES = [3.0, 2.0, 2.5, 2.4, 2.6, 1.0]
"""Of evaluations that stop a run with a patience of 2 after the fourth."""


class FailAt(TrainerCallback):
    """Ends the run with an error after a step, before its evaluation."""

    def __init__(self, step: int | None):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise RunError("stopped by the test")


@pytest.fixture
def start(sft_config, tmp_path, monkeypatch):
    """A run with an evaluation and a checkpoint after every step. start.lines: what it wrote."""
    read = EarlyStopping.on_evaluate

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        metrics["eval_loss"] = LOSSES[state.global_step - 1]
        return read(self, args, state, control, metrics=metrics, **kwargs)

    monkeypatch.setattr(EarlyStopping, "on_evaluate", on_evaluate)

    def run(until: int | None = None, **changes):
        run.lines = []
        saving = {**SAVING, "max_steps": 6, "save_steps": 1, "save_total_limit": 6, "metric_for_best_model": "loss"}
        stopping = {"evaluation_strategy": "steps", "eval_steps": 1, "early_stopping_patience": 2}
        config = {**sft_config, **saving, **stopping, "output_dir": str(tmp_path / "out"), **changes}
        return train(config, callbacks=[FailAt(until)], write=run.lines.append)

    return run


def steps(result) -> list[int]:
    return [step for step, _ in result.losses]


def test_a_run_ends_early_and_counts_as_finished(start, tmp_path):
    result = start()
    assert steps(result) == [1, 2, 3, 4] and result.stopped_early
    line = "stopped early after step 4 of 6: eval_loss has not improved in 2 evaluations; the best was 2.000000 after "
    assert line + "step 2" in start.lines
    finished = json.loads((tmp_path / "out" / "finished.json").read_text())
    assert finished["step"] == 4 and finished["early_stopping"]["patience"] == 2
    assert steps(start()) == [] and any("holds a finished run of 4 steps that stopped early" in x for x in start.lines)
    assert steps(start(max_steps=5)) == [] and any("nothing to do" in line for line in start.lines)
    more = start(early_stopping_patience=4)
    assert steps(more) == [5, 6] and not more.stopped_early


@pytest.mark.parametrize("until", [3, 4])
def test_a_resumed_run_keeps_the_count(start, until, tmp_path):
    """Stopped before the evaluation of step `until` counts."""
    with pytest.raises(RunError, match="stopped by the test"):
        start(until=until)
    result = start()
    assert steps(result) == list(range(until, 5)) and result.stopped_early


def test_a_run_killed_after_its_early_end_makes_no_step(start, tmp_path):
    start()
    expected = weights_in(tmp_path / "out")
    (tmp_path / "out" / "finished.json").unlink()
    result = start()
    assert steps(result) == [] and result.stopped_early
    assert (tmp_path / "out" / "finished.json").is_file()
    found = weights_in(tmp_path / "out")
    assert all((found[name] == expected[name]).all() for name in expected)


def test_the_best_model_is_loaded_at_the_end(start, tmp_path):
    start(load_best_model_at_end=True, save_total_limit=2)
    out = tmp_path / "out"
    kept = sorted(path.name for path in out.glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-4"] and all(defect(out / name) is None for name in kept)
    best, final = weights_in(out / "checkpoint-2"), weights_in(out)
    assert all((best[name] == final[name]).all() for name in best)


@given(
    values=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 2.0]), max_size=12),
    threshold=st.sampled_from([0.0, 0.15]),
    greater=st.booleans(),
)
def test_the_rule_is_that_of_paddlenlp(values, threshold, greater):
    """Where every evaluation is saved, which is when PaddleNLP sets the best metric."""
    callback = EarlyStoppingCallback(3, threshold)
    rule = StoppingRule(3, threshold, "eval_loss", greater)
    args = SimpleNamespace(metric_for_best_model="loss", greater_is_better=greater)
    state, control = SimpleNamespace(best_metric=None), TrainerControl()
    for i, value in enumerate(values):
        callback.on_evaluate(args, state, control, {"eval_loss": value})
        best = state.best_metric
        state.best_metric = value if best is None or (value > best if greater else value < best) else best
        assert rule.without_improvement(values[: i + 1]) == callback.early_stopping_patience_counter


@pytest.mark.parametrize("keys", [{"early_stopping_patience": 1}, {}])
def test_a_figure_that_this_loss_does_not_have_is_named(keys, task_config, preference_file):
    config = {**task_config("dpo"), **SAVING, "dev_dataset_path": str(preference_file), "max_steps": 1, "save_steps": 1}
    config |= {"evaluation_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "hinge_loss", **keys}
    message = (
        "^metric_for_best_model = 'hinge_loss': the evaluations of this run have no such figure, only .*sigmoid_loss"
    )
    with pytest.raises(ConfigError, match=message):
        train(config, write=lambda line: None)


def test_nan_is_no_improvement():
    rule = StoppingRule(2, 0.0, "eval_loss", False)
    assert rule.without_improvement([1.0, math.nan, math.nan]) == 2
    assert rule.without_improvement([math.nan, 1.0]) == 0
    assert rule.best([(1, math.nan), (2, 3.0), (3, 2.0), (4, 2.0)]) == (3, 2.0)


EVALUATED = {"evaluation_strategy": "steps", "save_strategy": "steps", "load_best_model_at_end": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"early_stopping_patience": 2},
            "early_stopping_patience = 2 needs evaluations while training: evaluation_str",
        ),
        (
            {**EVALUATED, "early_stopping_patience": 2, "benchmark": True},
            "early_stopping_patience = 2 needs evaluations while training",
        ),
        ({"early_stopping_threshold": 0.1}, "early_stopping_threshold needs early_stopping_patience"),
        ({"early_stopping_patience": 0}, "early_stopping_patience = 0 must be at least 1"),
        (
            {**EVALUATED, "metric_for_best_model": "bleu"},
            "metric_for_best_model = 'bleu' must be one of loss, accuracy, the figures of an evaluation of sft",
        ),
    ],
)
def test_errors_come_early(changes, message, sft_config):
    with pytest.raises(ConfigError) as caught:
        check_early({**sft_config, **changes})
    assert str(caught.value).startswith(message)


def test_the_prefix_of_a_metric_may_be_given(sft_config):
    check_early({**sft_config, **EVALUATED, "metric_for_best_model": "eval_accuracy"})


@pytest.mark.parametrize(
    ("key", "average"),
    [*((key, "default") for key in TASKS), *((key, "paddlenlp") for key in TASKS if key != "policy")],
)
def test_figures_are_those_of_an_evaluation(key, average, task_config):
    config = {**task_config(key), "max_steps": 1, "evaluation_strategy": "steps", "eval_steps": 1, "lazy": False}
    config |= {"load_best_model_at_end": False, "metric_for_best_model": "loss"}
    if "train_dataset_path" in config:
        config["dev_dataset_path"] = config["train_dataset_path"]
    if average == "paddlenlp":
        config["loss_average"] = average
    (evaluation, *_) = train(config, write=lambda line: None).evaluations
    found = {name.removeprefix("eval_") for name in evaluation if name.startswith("eval_")}
    speed = {"runtime", "samples_per_second", "steps_per_second", "ppl"}
    assert found - speed - {"count/chosen", "count/rejected"} <= set(TASKS[key].figures)
    certain = set(TASKS[key].figures) - {"log_odds_ratio", "log_odds_chosen", "ratio", "clipped", "kl", "reference_kl"}
    assert {name for name in certain if not name.endswith("_loss")} <= found
