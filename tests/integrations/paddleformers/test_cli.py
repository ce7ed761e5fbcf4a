"""PaddleFormers' published configurations of SFT and DPO, run through its own command line at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import PLUGIN, STEPS, both, make_folder, train
from support.repository import REPOSITORY

PUBLISHED = json.loads((REPOSITORY / "tests" / "data" / "paddleformers_configs.json").read_text())
FILES = {file["path"].removeprefix("examples/config/"): file["values"] for file in PUBLISHED["files"]}
# docs/paddleformers.md gives the reasons.
TOY = {
    "max_seq_len": 160,
    "max_steps": STEPS,
    "eval_steps": STEPS,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "gradient_accumulation_steps": 1,
    "template_backend": "jinja",
    "template": None,
    "num_samples_each_epoch": 40,
    "tensor_model_parallel_size": 1,
    "pipeline_model_parallel_size": 1,
    "sequence_parallel": False,
    "save_safetensors": None,
    "bf16": False,
    "fp16_opt_level": "O1",
}
ADDED = {"device": "cpu", "custom_register_path": PLUGIN}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    make_folder(path)
    return path


def toy(values: dict, **changes) -> dict:
    """The values with those of TOY in place of their own."""
    changed = {**values, **{key: value for key, value in TOY.items() if key in values}, **ADDED, **changes}
    return {key: value for key, value in changed.items() if value is not None}


@pytest.mark.parametrize("name", FILES)
def test_losses_equal_those_of_the_dense_mask(name, folder, tmp_path):
    """In the first step of DPO policy and reference are equal; from the second one on the masks decide."""
    published = FILES[name]
    assert published["_attn_implementation"] == "flashmask"
    changes = {"do_eval": False, "evaluation_strategy": "no"} if "lora" in published else {}
    ours = toy(published, _attn_implementation="paddle_flashmask", **changes)
    dense = {"use_attn_mask_startend_row_indices": False} if published["stage"] == "DPO" else {}
    eager = toy(published, _attn_implementation="eager", **changes, **dense)
    losses, expected = both((folder, tmp_path / "ours", ours), (folder, tmp_path / "eager", eager))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert losses[0] != pytest.approx(losses[-1], rel=1e-3)
    assert any((tmp_path / "ours").glob("*config.json"))


def test_a_name_that_nobody_registered_stops_the_run(folder, tmp_path):
    with pytest.raises(AssertionError, match="Invalid _attn_implementation: paddle_flashmsk"):
        train(folder, tmp_path / "misspelt", toy(FILES["sft/full.yaml"], _attn_implementation="paddle_flashmsk"))
