"""Merging of a LoRA adapter into the weights of its base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddlenlp.transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from .errors import ConfigError
from .lora import load_with_adapter
from .reward_model import SCORE_HEAD, reward_model_class


def merge_adapter(adapter: str | Path, output: str | Path, base: str | None = None) -> None:
    """Save the merged model to `output` in PaddleNLP's format and the base's precision, with the tokenizer of the
    adapter's or the base's folder. adapter, base: as for `load_with_adapter`.

    Raises what `load_with_adapter` raises, and ConfigError if `output` is not empty.
    """
    if Path(output).exists() and any(Path(output).iterdir()):
        raise ConfigError(f"{output} is not empty")
    model = load_with_adapter(adapter, _model_class, base)
    base = model.lora_config.base_model_name_or_path
    model.merge()
    merged = model.restore_original_model()
    dtype = AutoConfig.from_pretrained(base).dtype or "float32"
    merged.to(dtype=dtype)
    merged.config.dtype = dtype
    merged.save_pretrained(str(output))
    for folder in (str(adapter), base):
        if (Path(folder) / "tokenizer_config.json").is_file():
            AutoTokenizer.from_pretrained(folder).save_pretrained(str(output))
            return


def _model_class(config: Any, lora_config: Any) -> type:
    scores = SCORE_HEAD in (lora_config.trainable_modules or [])
    return reward_model_class(config) if scores else AutoModelForCausalLM
