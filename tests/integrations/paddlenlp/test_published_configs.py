"""The configuration files that PaddleNLP publishes: each is read, or refused with a reason for each key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.repository import REPOSITORY

from paddle_flashmask.integrations.paddlenlp.config.keys import OTHER_RELEASES
from paddle_flashmask.integrations.paddlenlp.config.values import check_early, read_values
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS, task_of

TABLE = json.loads((REPOSITORY / "tests" / "data" / "paddlenlp_configs.json").read_text())


def common(name: str) -> dict[str, Any]:
    """A set of values that files share."""
    values = dict(TABLE["sets"][name])
    like = values.pop("like", None)
    return {**common(like), **values} if like else values


def written(tmp_path: Path, name: str) -> Path:
    entry = TABLE["files"][name]
    path = tmp_path / name.replace("/", "_")
    path = path.with_suffix(".json")
    path.write_text(json.dumps({**common(entry["like"]), **entry["values"]}))
    return path


@pytest.mark.parametrize("name", [name for name, entry in TABLE["files"].items() if not entry["refused"]])
def test_a_file_is_read(name, tmp_path):
    path = written(tmp_path, name)
    check_early(path)
    values = read_values(path)
    task, _ = task_of(values, path.stem)
    assert task is TASKS[TABLE["files"][name]["task"]]
    arguments = task.arguments(values)
    notes = " ".join(arguments.notes)
    changed = SETTLED | (SETTLED_BY_BENCHMARK if values.get("benchmark") else set())
    for key in values.keys() - changed:
        found = next(vars(group)[key] for group in vars(arguments).values() if key in getattr(group, "__dict__", ()))
        found = getattr(found, "value", found)
        kept = found == values[key] or str(found) == str(values[key])
        assert kept or key in notes, f"{key} = {values[key]!r} is read as {found!r}"


# Keys that PaddleNLP's arguments store in another form, and those of 16 bits, which the CPU does not have.
SETTLED = {"bf16", "fp16", "fp16_opt_level", "report_to", "sharding", "unified_checkpoint_config"}
SETTLED |= {"pipeline_parallel_config", "tensor_parallel_config", "sharding_parallel_config"}
SETTLED |= {"tensor_parallel_degree", "pipeline_parallel_degree", "sharding_parallel_degree"}
SETTLED_BY_BENCHMARK = {"do_eval", "load_best_model_at_end"}


@pytest.mark.parametrize("name", [name for name, entry in TABLE["files"].items() if entry["refused"]])
def test_a_refusal_names_every_key(name, tmp_path):
    keys = TABLE["files"][name]["refused"]
    with pytest.raises((ConfigError, UnsupportedConfigError)) as caught:
        check_early(written(tmp_path, name))
    message = str(caught.value)
    assert all(key in message for key in keys)
    if set(keys) <= OTHER_RELEASES:
        assert all(f"{key!r} is no key of PaddleNLP 3.0.0b4, only of other releases" in message for key in keys)
        assert "unknown key" not in message
    else:
        assert "is not supported in this release" in message


@pytest.mark.parametrize("key", ["beta", "loss_type", "label_smoothing"])
def test_keys_of_older_files_name_those_of_today(key, tmp_path):
    with pytest.raises(ConfigError, match=f"'dpo_{key}' is no key of .*?; use {key!r}"):
        check_early(written(tmp_path, "baichuan/dpo_argument"))
