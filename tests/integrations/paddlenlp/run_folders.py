"""The configuration keys of short runs that save, and the weights that a run left in its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from safetensors.numpy import load_file

SAVING = {
    "lazy": False,
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 3,
    "load_best_model_at_end": False,
    "report_to": "none",
}


def weights_in(folder: Path) -> dict[str, np.ndarray]:
    """The weights, or adapters, of the one format that the folder holds."""
    pickled = [*folder.glob("model_state.pdparams"), *folder.glob("lora_model_state.pdparams")]
    safe = [*folder.glob("model-*.safetensors"), *folder.glob("peft_model-*.safetensors")]
    assert len(pickled + safe) == 1
    return all_weights_in(folder)


def all_weights_in(folder: Path) -> dict[str, np.ndarray]:
    """The weights, or adapters, of all parts that the folder holds."""
    weights = {}
    for path in sorted([*folder.glob("model-*.safetensors"), *folder.glob("peft_model-*.safetensors")]):
        weights.update(load_file(path))
    for path in [*folder.glob("model_state*.pdparams"), *folder.glob("lora_model_state*.pdparams")]:
        weights.update({name: np.asarray(value) for name, value in paddle.load(str(path), return_numpy=True).items()})
    return weights
