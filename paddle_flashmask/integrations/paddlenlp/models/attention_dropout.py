"""Attention dropout in a model's config.json, which PaddleNLP drops on most of its attention paths."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedConfigError

COLUMNS, FLASH, EAGER = "flash_mask", "use_flash_attention", "neither flash_mask nor use_flash_attention"
"""Paths of attention, by the keys that select them: columns, and dense masks with and without flash attention."""
APPLIED = {
    "llama": (),
    "mistral": (),
    "qwen2": (EAGER,),
    "qwen2_moe": (EAGER,),
    "gemma": (COLUMNS, EAGER),
    "deepseek_v2": (COLUMNS, EAGER),
    "deepseek_v3": (COLUMNS, EAGER),
    "mixtral": (COLUMNS, FLASH, EAGER),
}
"""Model type -> paths that apply `attention_dropout`."""


def check_attention_dropout(config: Any, flash_mask: bool, use_flash_attention: bool) -> None:
    """Raise UnsupportedConfigError where training would leave out the model's attention dropout.

    config: of the model. flash_mask, use_flash_attention: the keys of that name.
    """
    dropout = getattr(config, "attention_dropout", 0.0) or 0.0
    applied = APPLIED.get(config.model_type)
    path = COLUMNS if flash_mask else FLASH if use_flash_attention else EAGER
    if dropout == 0 or applied is None or path in applied:
        return
    others = f", or train with {' or '.join(applied)}" if applied else ""
    raise UnsupportedConfigError(
        f"attention_dropout = {dropout} in the model's config.json: PaddleNLP's {config.model_type} leaves it out with "
        f"{path}, so the model would be trained without it; set it to 0 there{others}"
    )
