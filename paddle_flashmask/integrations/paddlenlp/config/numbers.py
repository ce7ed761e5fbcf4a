"""Ranges of numeric keys, checked on the values of a configuration without importing Paddle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`. `above` excludes `least` itself, `below` excludes `most` itself.

    or_: one more number, with its own meaning.
    """

    least: float = 0
    most: float = math.inf
    above: bool = False
    below: bool = False
    or_: float | None = None

    def holds(self, number: float) -> bool:
        if number == self.or_:
            return True
        if (self.above and number == self.least) or (self.below and number == self.most):
            return False
        return math.isfinite(number) and self.least <= number <= self.most

    def __str__(self) -> str:
        text = f"{'above' if self.above else 'at least'} {_digits(self.least)}"
        if self.most < math.inf:
            text += f" and {'below' if self.below else 'at most'} {_digits(self.most)}"
        return text + (f", or {_digits(self.or_)}" if self.or_ is not None else "")


_POSITIVE = Range(above=True)
_COUNT = Range(1)
_AT_LEAST_0 = Range()
_SHARE = Range(most=1)
_DECAY = Range(most=1, below=True)

RANGES = {
    "learning_rate": _POSITIVE,
    "lr_end": _AT_LEAST_0,
    "min_lr": _AT_LEAST_0,
    "num_cycles": _POSITIVE,
    "power": _POSITIVE,
    "weight_decay": _AT_LEAST_0,
    "adam_beta1": _DECAY,
    "adam_beta2": _DECAY,
    "adam_epsilon": _POSITIVE,
    "max_grad_norm": _AT_LEAST_0,
    "warmup_ratio": _SHARE,
    "warmup_steps": _AT_LEAST_0,
    "num_train_epochs": _POSITIVE,
    "max_steps": Range(1, or_=-1),
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "eval_accumulation_steps": _COUNT,
    "logging_steps": _COUNT,
    "save_steps": _COUNT,
    "eval_steps": _COUNT,
    "save_total_limit": _COUNT,
    "early_stopping_patience": _COUNT,
    "early_stopping_threshold": _AT_LEAST_0,
    "dataloader_num_workers": _AT_LEAST_0,
    "seed": Range(most=2**32 - 1),
    "scale_loss": _POSITIVE,
    "generate_samples": _AT_LEAST_0,
    "generate_max_new_tokens": _COUNT,
    "lora_rank": _COUNT,
    "lora_alpha": Range(1, or_=-1),
    "lora_plus_scale": _POSITIVE,
    "tokenize_processes": _COUNT,
    "max_length": _COUNT,
    "src_length": _COUNT,
    "max_seq_len": _COUNT,
    "max_prompt_len": _COUNT,
    "beta": _POSITIVE,
    "clip_ratio": Range(most=1, above=True),
    "clip_ratio_low": Range(most=1, above=True),
    "clip_ratio_high": _POSITIVE,
    "simpo_gamma": _AT_LEAST_0,
    "label_smoothing": Range(most=0.5),
    "pref_loss_ratio": _AT_LEAST_0,
    "sft_loss_ratio": _AT_LEAST_0,
    "dpop_lambda": _AT_LEAST_0,
    "desirable_weight": _AT_LEAST_0,
    "undesirable_weight": _AT_LEAST_0,
}


def check_numbers(values: dict[str, Any]) -> None:
    """Raise ConfigError for NaN and infinity in any key, and for numbers outside RANGES, naming the key.

    A value that is no number is left to the parser, which names the type that it expects.
    """
    for key, value in values.items():
        number = _number(value) if key in RANGES else value
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{key} = {value} must be a finite number")
        if key in RANGES and number is not None and not RANGES[key].holds(number):
            raise ConfigError(f"{key} = {value} must be {RANGES[key]}")


def _digits(number: float) -> str:
    """The number without an exponent where it is an integer."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _number(value: Any) -> float | None:
    """The value as a number, also from the words of a command line; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
