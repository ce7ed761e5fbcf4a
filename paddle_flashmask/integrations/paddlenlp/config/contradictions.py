"""Contradictions between keys, checked as after parsing, but without importing Paddle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ..errors import ConfigError, UnsupportedConfigError
from .arguments import Arguments, check_common, check_lengths
from .keys import DATA_KEYS, DEFAULTS, FIGURES_OF, LENGTH_KEYS
from .known import keys_of
from .value_types import converted


def check_contradictions(values: dict[str, Any], task: str) -> None:
    """Raise ConfigError for values that do not go together, or without a model, data or work.

    values: of known keys and the right types.
    """
    keys = _parsed(values, task)
    if keys.fp16 and keys.bf16:
        raise ConfigError("fp16 and bf16 are both true; use one of them")
    if keys.load_best_model_at_end:
        _check_best_model(keys)
    if keys.benchmark or keys.autotuner_benchmark:
        keys.do_train, keys.do_eval = True, False
    _check_early_stopping(keys, values, task)
    if hasattr(keys, "generate_samples"):
        _check_samples(keys, values)
    needed = [key for mode, names in DATA_KEYS[task].items() if getattr(keys, mode) for key in names]
    arguments = Arguments(model=keys, data=keys, training=keys, options=keys)
    check_common(arguments, list(dict.fromkeys(needed)))
    check_lengths(arguments, *LENGTH_KEYS[task])


def _parsed(values: dict[str, Any], task: str) -> Any:
    """All keys of a task as attributes, as PaddleNLP parses them; None for a default that depends on the task."""
    keys = {key: DEFAULTS[key] for key in keys_of(task)}
    keys.update((key, converted(key, value)) for key, value in values.items())
    if keys["evaluation_strategy"] != "no":
        keys["do_eval"] = True
    elif keys["do_eval"]:
        keys["evaluation_strategy"] = "steps"
    return SimpleNamespace(**keys)


def _check_early_stopping(keys: Any, values: dict[str, Any], task: str) -> None:
    """Check the keys of early stopping, and that evaluations while training have the metric that selects the best."""
    stops = keys.early_stopping_patience is not None
    evaluates = keys.do_train and keys.do_eval and str(values.get("evaluation_strategy", "")).lower() != "no"
    if "early_stopping_threshold" in values and not stops:
        raise ConfigError("early_stopping_threshold needs early_stopping_patience")
    if stops and not evaluates:
        raise ConfigError(
            f"early_stopping_patience = {keys.early_stopping_patience} needs evaluations while training: "
            "evaluation_strategy = 'steps' or 'epoch', and neither benchmark nor autotuner_benchmark"
        )
    metric = keys.metric_for_best_model
    if evaluates and metric is not None and metric.removeprefix("eval_") not in FIGURES_OF[task]:
        raise ConfigError(
            f"metric_for_best_model = {metric!r} must be one of {', '.join(FIGURES_OF[task])}, the figures of an "
            f"evaluation of {task}"
        )


def _check_samples(keys: Any, values: dict[str, Any]) -> None:
    """Check the keys of a task that generates answers after an evaluation."""
    if not keys.generate_samples:
        if "generate_max_new_tokens" in values:
            raise ConfigError("generate_max_new_tokens needs generate_samples")
        return
    if not keys.do_eval:
        raise ConfigError(f"generate_samples = {keys.generate_samples} needs do_eval = true or an evaluation_strategy")
    if keys.attention_mask_type != "causal_document":
        raise UnsupportedConfigError(
            f"generate_samples = {keys.generate_samples} needs attention_mask_type = 'causal_document', because "
            f"answers are generated causally; got {keys.attention_mask_type!r}"
        )


def _check_best_model(keys: Any) -> None:
    if keys.evaluation_strategy != keys.save_strategy:
        raise ConfigError(
            "load_best_model_at_end = true needs one value of evaluation_strategy and save_strategy; they are "
            f"{keys.evaluation_strategy!r} and {keys.save_strategy!r}"
        )
    every = keys.eval_steps or keys.logging_steps
    if keys.evaluation_strategy == "steps" and keys.save_steps % every:
        raise ConfigError(
            f"load_best_model_at_end = true needs save_steps = {keys.save_steps} to be a multiple of "
            f"eval_steps = {every}"
        )
