"""Files of a LoRA adapter that PaddleNLP saved."""

from __future__ import annotations

from pathlib import Path

from .errors import ConfigError

ADAPTER_CONFIG = "lora_config.json"
# Without and with unified_checkpoint.
ADAPTER_WEIGHTS = ("lora_model_state.pdparams", "peft_model.safetensors.index.json")


def check_adapter(named: str, folder: str | Path) -> None:
    """Raise ConfigError unless the folder holds an adapter: PaddleNLP would start from random adapters without weights.

    named: the folder as the message names it.
    """
    for names in ([ADAPTER_CONFIG], ADAPTER_WEIGHTS):
        if not any((Path(folder) / name).is_file() for name in names):
            raise ConfigError(f"{named} is not a LoRA adapter: it has no {' or '.join(names)}")
