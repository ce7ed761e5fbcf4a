"""`train`, `inspect` and `verify` on data as other toolkits write it, with the losses of PaddleNLP's own form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from data_files import WRITERS, write_lines
from run_folders import SAVING

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect
from paddle_flashmask.integrations.paddlenlp.train import train
from paddle_flashmask.integrations.paddlenlp.verification.configuration import verify_config

EVALUATING = {"do_eval": True, "evaluation_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": False}


@pytest.fixture
def run(tmp_path) -> Callable:
    """A function that trains from a configuration with changes; the file is config.json."""

    def start(config: dict, **changes):
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        return train(tmp_path / "config.json", write=lambda line: None)

    return start


def rows_in(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def as_alpaca(row: dict) -> dict:
    return {"instruction": row["src"], "input": "", "output": row["tgt"]}


@pytest.mark.parametrize("lazy", [False, True])
def test_sft_on_a_saved_data_set_of_alpaca_rows(lazy, run, sft_config, data_folder, tmp_path):
    config = {**sft_config, **EVALUATING, "lazy": lazy, "max_steps": 4}
    parts = {name: rows_in(data_folder / f"{name}.json") for name in ("train", "dev")}
    saved = {name: datasets.Dataset.from_list(list(map(as_alpaca, rows))) for name, rows in parts.items()}
    datasets.DatasetDict(train=saved["train"], validation=saved["dev"]).save_to_disk(tmp_path / "saved")
    expected = run(config, output_dir=str(tmp_path / "lines"))
    changes = {"dataset_name_or_path": str(tmp_path / "saved"), "output_dir": str(tmp_path / "arrow")}
    found = run(config, **changes)
    assert found.losses == expected.losses and len(found.losses) == 4
    assert [entry["eval_loss"] for entry in found.evaluations] == [entry["eval_loss"] for entry in expected.evaluations]
    if not lazy:
        facts = inspect(tmp_path / "config.json", batches=0, write=lambda line: None).facts
        assert dict(facts)["training data"].endswith(".arrow")
        assert [text.split(" in ")[0] for name, text in facts if name == "rows"] == ["60 of 60", "12 of 12"]
        report = verify_config(tmp_path / "config.json", batches=1, write=lambda line: None)
        assert all(check.passed for check in report.checks)


@pytest.mark.parametrize("ending", [".json", ".parquet", ""])
def test_dpo_on_sharegpt_pairs(ending, run, dpo_config, preference_file, tmp_path):
    pairs = []
    for row in rows_in(preference_file):
        talk = [entry for pair in zip(row["src"], [*row["tgt"], None], strict=True) for entry in pair][:-1]
        turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(talk)]
        best = row["sort"].index(1)
        chosen, rejected = ({"from": "gpt", "value": row["response"][place]} for place in (best, 1 - best))
        pairs.append({"conversations": turns, "chosen": chosen, "rejected": rejected})
    WRITERS[ending](tmp_path / f"pairs{ending}", pairs)
    config = {**dpo_config, "task": "dpo", "max_steps": 3}
    changes = {"train_dataset_path": str(tmp_path / f"pairs{ending}"), "output_dir": str(tmp_path / "other")}
    assert run(config, **changes).losses == run(config).losses


def test_a_run_on_a_saved_data_set_is_continued_on_the_same_rows_alone(run, sft_config, data_folder, tmp_path):
    rows = list(map(as_alpaca, rows_in(data_folder / "train.json")))
    config = {**sft_config, **SAVING, "dataset_name_or_path": str(tmp_path / "saved")}
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    run(config)
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    assert [step for step, _ in run(config, dataset_name_or_path=str(moved), max_steps=5).losses] == [5]
    datasets.Dataset.from_list(rows[::-1]).save_to_disk(tmp_path / "saved")
    with pytest.raises(ConfigError, match="other training data"):
        run(config, max_steps=6)
    write_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ConfigError, match="other training data"):
        run(config, dataset_name_or_path=str(tmp_path / "rows.jsonl"), max_steps=6)
