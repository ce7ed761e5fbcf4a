"""training_log.csv and VisualDL records hold what the run logged."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import struct
from pathlib import Path

import pytest
from tensorboardX.proto import event_pb2
from visualdl import LogReader

from paddle_flashmask.integrations.paddlenlp.config.values import read_values
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.train import train


@pytest.fixture
def run(sft_config, tmp_path):
    def run(**changes):
        path = tmp_path / "sft.json"
        path.write_text(json.dumps({**sft_config, "lazy": False, "load_best_model_at_end": False, **changes}))
        return train(path, write=lambda line: None)

    return run


def logged(folder: Path, name: str) -> list[tuple[int, float]]:
    with open(folder / "training_log.csv", newline="") as file:
        return [(int(row["step"]), float(row["value"])) for row in csv.DictReader(file) if row["name"] == name]


def test_csv_holds_training_and_evaluation(run, tmp_path):
    result = run(do_eval=True, evaluation_strategy="steps", eval_steps=2, max_steps=3)
    assert logged(tmp_path / "out", "loss") == result.losses and len(result.losses) == 3
    assert logged(tmp_path / "out", "eval_loss") == [(e["step"], e["eval_loss"]) for e in result.evaluations]
    assert len(result.evaluations) == 2
    again = run(max_steps=2, overwrite_output_dir=True)
    assert logged(tmp_path / "out", "loss") == again.losses and not logged(tmp_path / "out", "eval_loss")


def test_csv_of_a_resumed_run_goes_on_from_its_checkpoint(run, tmp_path):
    whole = run(max_steps=4, save_strategy="steps", save_steps=2, save_total_limit=3)
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    (tmp_path / "out" / "finished.json").unlink()
    resumed = run(max_steps=4)
    assert [step for step, _ in resumed.losses] == [3, 4]
    assert logged(tmp_path / "out", "loss") == whole.losses[:2] + resumed.losses


def test_evaluation_alone_leaves_the_log_of_a_training_run(run, tmp_path):
    trained = run(max_steps=2)
    run(do_train=False, do_eval=True)
    assert logged(tmp_path / "out", "loss") == trained.losses


def test_visualdl_records_hold_losses_and_hyperparameters(run, tmp_path):
    """With protobuf 7, PaddleNLP's own callback fails at the first boolean hyper-parameter."""
    result = run(max_steps=2)
    (record,) = (tmp_path / "out" / "runs").rglob("vdlrecords.*.log")
    entries = LogReader(file_path=str(record)).get_data("scalar", "train/loss")
    assert [(entry.id, pytest.approx(entry.value)) for entry in entries] == result.losses


def test_without_visualdl_nothing_is_reported(sft_config, tmp_path, monkeypatch):
    path = tmp_path / "sft.json"
    path.write_text(json.dumps(sft_config))
    assert TASKS["sft"].arguments(read_values(path)).training.report_to == ["visualdl"]
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "visualdl" else found(name))
    assert TASKS["sft"].arguments(read_values(path)).training.report_to == []


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of a scalar in TensorBoard's records: a length, its checksum, a message and its checksum each."""
    files = sorted(folder.rglob("events.out.tfevents.*"), key=lambda file: int(file.suffix[1:]))
    data, found = b"".join(file.read_bytes() for file in files), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == name]
    return found


@pytest.mark.parametrize("report_to", [["tensorboard"], "all"])
def test_tensorboard_records_hold_losses(run, tmp_path, report_to):
    result = run(max_steps=2, report_to=report_to, do_eval=True, evaluation_strategy="steps", eval_steps=1)
    folder = tmp_path / "out" / "runs"
    assert [(step, pytest.approx(value)) for step, value in scalars(folder, "train/loss")] == result.losses
    evaluations = [(evaluation["step"], evaluation["eval_loss"]) for evaluation in result.evaluations]
    assert [(step, pytest.approx(value)) for step, value in scalars(folder, "eval/loss")] == evaluations
    assert [step for step, _ in evaluations] == [1, 2, 2]
    assert bool(list(folder.rglob("vdlrecords.*.log"))) == (report_to == "all")
