"""ERNIEKit's published configurations of SFT and DPO, run through the command line of ERNIEKit 1.0.1 at toy size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from erniekit_runs import STEPS, block_of_the_page, both, make_folder
from support.repository import REPOSITORY

PUBLISHED = json.loads((REPOSITORY / "tests" / "data" / "erniekit_configs.json").read_text())
FILES = {file["path"].removeprefix("examples/configs/ERNIE-4.5-0.3B/"): file["values"] for file in PUBLISHED["files"]}
TOY = {"max_seq_len": 160, "max_steps": STEPS, "warmup_steps": 0}
ADDED = yaml.safe_load(block_of_the_page("yaml"))  # what a CPU needs, with reasons
LEARNING_RATES = {"SFT": {"Full": 1e-3, "LoRA": 1e-3}, "DPO": {"Full": 1e-4, "LoRA": 1e-5}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ernie")
    make_folder(path)
    return path


@pytest.mark.parametrize("path", FILES)
def test_losses_of_a_published_configuration_equal_those_of_the_dense_path(path, folder, tmp_path):
    values = {**FILES[path], **TOY, **ADDED}
    values["learning_rate"] = LEARNING_RATES[values["stage"]][values["fine_tuning"]]
    if "num_samples_each_epoch" in values:
        values["num_samples_each_epoch"] = 40
    dense = {**values, "use_sparse_flash_attn": False}
    found, expected = both((folder, tmp_path / "operator", values), (folder, tmp_path / "dense", dense))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[STEPS] < found[0]
