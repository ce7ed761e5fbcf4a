"""ERNIEKit's published configurations of SFT and DPO, read by its own parser."""

from __future__ import annotations

import enum
import json

import pytest
from erniekit.hparams import get_train_args
from support.repository import REPOSITORY

PUBLISHED = json.loads((REPOSITORY / "tests" / "data" / "erniekit_configs.json").read_text())
FILES = {file["path"]: file["values"] for file in PUBLISHED["files"]}
# Keys that 1.3.0 does not have, and those that its arguments change in one process.
UNKNOWN = {"SFT": set(), "DPO": {"mix_strategy", "packing"}}
ONE_PROCESS = {
    *("tensor_parallel_degree", "pipeline_parallel_degree", "sharding_parallel_degree", "sharding"),
    "distributed_dataloader",
}


@pytest.mark.parametrize("path", FILES)
def test_every_value_is_read(path):
    values = FILES[path]
    groups = get_train_args(dict(values))
    read = {key: getattr(group, key) for group in groups for key in values if hasattr(group, key)}
    assert values.keys() - read.keys() == UNKNOWN[values["stage"]]
    for key in read.keys() - ONE_PROCESS:
        value = read[key].value if isinstance(read[key], enum.Enum) else read[key]
        assert value in (values[key], [values[key]]), key
