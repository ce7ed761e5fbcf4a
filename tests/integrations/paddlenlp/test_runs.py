"""A run may be started again, stopped, and left alone: what its folder holds is whole, and nothing is trained twice."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from click.testing import CliRunner
from paddlenlp.transformers import AutoConfig, AutoModelForCausalLM
from run_folders import SAVING, weights_in

from paddle_flashmask.cli.train import train as train_command
from paddle_flashmask.integrations.paddlenlp.averages import StepAverages
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, RunError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.train import train


@pytest.fixture
def start(sft_config, tmp_path):
    """Start the run in tmp_path/out, also again. start.lines: what it wrote. hook: called with every line."""

    def run(config: dict | None = None, /, hook=lambda line: None, **changes):
        start_lines: list[str] = []
        path = tmp_path / "config.json"
        base = {**(config or sft_config), **SAVING, "output_dir": str(tmp_path / "out")}
        path.write_text(json.dumps({**base, **changes}))

        def write(line: str) -> None:
            start_lines.append(line)
            hook(line)

        run.lines = start_lines
        return train(path, write=write)

    return run


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def steps(result) -> list[int]:
    return [step for step, _ in result.losses]


def said(start, *words: str) -> bool:
    return any(all(word in line for word in words) for line in start.lines)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("checkpoint-*")}


def unmark(folder: Path) -> None:
    """Leave the folder as a run does that is killed after its last checkpoint."""
    (folder / "finished.json").unlink()


@pytest.mark.parametrize("key", TASKS)
def test_a_finished_run_started_again_does_nothing(start, task_config, out, key):
    config = task_config(key)
    first = start(config, save_strategy="no")
    before = files(out)
    again = start(config, save_strategy="no")
    assert steps(first) == [1, 2, 3, 4] and again.losses == []
    assert said(start, "nothing to do", "finished run of 4 steps")
    assert files(out) == before


@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_fewer_steps_or_epochs_than_a_finished_run_has(start, out, strategy):
    start(save_strategy=strategy)
    before = files(out)
    assert start(save_strategy=strategy, max_steps=2).losses == [] and files(out) == before
    start(max_steps=-1, num_train_epochs=2, overwrite_output_dir=True, per_device_train_batch_size=4)
    before = files(out)
    for epochs in (2, 1):
        result = start(max_steps=-1, num_train_epochs=epochs, per_device_train_batch_size=4)
        assert result.losses == [] and said(start, "nothing to do") and files(out) == before


def test_more_steps_continue_from_the_last_checkpoint_or_are_refused(start):
    start()
    assert steps(start(max_steps=6)) == [5, 6]
    start(save_strategy="no", overwrite_output_dir=True)
    with pytest.raises(ConfigError, match="finished run of 4 steps and no checkpoint to continue from"):
        start(save_strategy="no", max_steps=6)


@pytest.mark.parametrize("unified", [False, True])
def test_a_run_killed_before_its_model_was_saved_saves_it(start, out, unified):
    start(unified_checkpoint=unified)
    expected = weights_in(out)
    unmark(out)
    for pattern in ("model*.safetensors*", "model_state*"):
        for path in out.glob(pattern):
            path.unlink()
    assert start(unified_checkpoint=unified).losses == []
    for name, value in weights_in(out).items():
        np.testing.assert_array_equal(value, expected[name])
    assert (out / "finished.json").is_file()


def test_fewer_steps_than_a_checkpoint_has(start, out):
    start()
    unmark(out)
    before = weights_in(out)
    assert start(max_steps=2).losses == [] and said(start, "nothing to do", "checkpoint-4 has 4 steps")
    np.testing.assert_equal(weights_in(out), before)


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty", "manifest", "without manifest"])
def test_an_incomplete_checkpoint_is_skipped(start, out, damage):
    whole = start()
    unmark(out)
    last = out / "checkpoint-4"
    if damage == "truncated":
        os.truncate(last / "training_args.bin", 10)
    elif damage == "missing":
        (last / "rng_state.pth").unlink()
    elif damage == "empty":
        os.truncate(last / "scheduler.pdparams", 0)
    else:
        (last / "checkpoint.json").unlink()
        if damage == "manifest":
            (last / "checkpoint.json").write_text("{")
        else:
            (last / "scheduler.pdparams").unlink()
    resumed = start()
    assert said(start, "checkpoint-4 is incomplete and skipped") and said(start, "resuming from", "checkpoint-2")
    assert resumed.losses == whole.losses[2:]


def test_a_named_checkpoint_must_be_complete(start, out):
    start()
    (out / "checkpoint-2" / "rng_state.pth").unlink()
    with pytest.raises(ConfigError, match="checkpoint-2.* is incomplete: rng_state.pth is missing"):
        start(resume_from_checkpoint=str(out / "checkpoint-2"))


@pytest.mark.parametrize("unified", [False, True])
def test_a_disk_that_takes_no_more_leaves_no_half_checkpoint(start, out, unified):
    options = {"unified_checkpoint": unified, "max_steps": 6}
    whole = start(**options)
    expected = weights_in(out)
    shutil.rmtree(out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(line: str) -> None:
        if line.startswith("step 3/"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    try:
        with pytest.raises(RunError, match="checkpoint-4 cannot be saved.*the last complete checkpoint is .*point-2"):
            start(hook=fill, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(out) == {"checkpoint-2"} and not list((out / ".unfinished").iterdir())
    assert start(**options).losses == whole.losses[2:]
    np.testing.assert_equal(weights_in(out), expected)


def test_overwriting_leaves_nothing_of_the_old_run(start, out):
    start(max_steps=6, unified_checkpoint=False)
    (out / "notes.txt").write_text("mine")
    start(max_steps=4, unified_checkpoint=True, overwrite_output_dir=True)
    assert names(out) == {"checkpoint-2", "checkpoint-4"} and not (out / "model_state.pdparams").exists()
    assert (out / "notes.txt").read_text() == "mine"
    start(lora=True, lora_rank=4, overwrite_output_dir=True)
    assert not list(out.glob("model*")) and list(out.glob("peft_model*"))
    start(unified_checkpoint=False, overwrite_output_dir=True)
    assert not list(out.glob("*.safetensors*")) and not (out / "lora_config.json").exists()


def test_overwriting_keeps_the_checkpoint_to_resume_from(start, out):
    whole = start()
    resumed = start(overwrite_output_dir=True, resume_from_checkpoint=str(out / "checkpoint-2"), save_steps=10)
    assert resumed.losses == whole.losses[2:] and names(out) == {"checkpoint-2"}


def test_the_model_of_the_run_is_not_overwritten(start, out):
    start()
    with pytest.raises(ConfigError, match="would remove model_name_or_path"):
        start(overwrite_output_dir=True, model_name_or_path=str(out / "checkpoint-2"), continue_training=True)


def test_save_total_limit_holds(start, out):
    start(save_steps=1, save_total_limit=2)
    assert names(out) == {"checkpoint-3", "checkpoint-4"}


def test_the_best_checkpoint_is_kept(start, out):
    evaluated = {"do_eval": True, "evaluation_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    worst = {"metric_for_best_model": "loss", "greater_is_better": True}
    result = start(save_steps=1, save_total_limit=1, max_steps=5, **evaluated, **worst)
    best = int(np.argmax([entry["eval_loss"] for entry in result.evaluations[:5]])) + 1
    assert best < 5 and names(out) == {f"checkpoint-{best}", "checkpoint-5"}
    state = json.loads((out / "checkpoint-5" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(out / f"checkpoint-{best}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_so(start, out, number):
    options = {"max_steps": 6, "save_strategy": "no"}
    whole = start(**options)
    expected = weights_in(out)
    shutil.rmtree(out)
    handler = signal.getsignal(number)

    def interrupt(line: str) -> None:
        if line.startswith("step 2/"):
            os.kill(os.getpid(), number)

    with pytest.raises(RunError, match=f"stopped by {number.name} after step 3 of 6: saved checkpoint-3") as error:
        start(hook=interrupt, **options)
    assert error.value.exit_code == 128 + number and signal.getsignal(number) is handler
    assert not (out / "finished.json").exists() and not list(out.glob("model*"))
    assert start(**options).losses == whole.losses[3:]
    np.testing.assert_equal(weights_in(out), expected)


def test_sigterm_at_the_command_line(sft_config, out, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**sft_config, **SAVING, "save_strategy": "no", "max_steps": 5000}))
    script = Path(sys.executable).with_name("paddle-flashmask")
    command = [sys.executable, "-u", script, "train", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            if line.startswith("step 3/"):
                process.terminate()
                break
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    (checkpoint,) = names(out)
    assert f"Error: stopped by SIGTERM after step {checkpoint[11:]} of 5000: saved {checkpoint}" in rest


CHANGES = {
    "data": "other training data",
    "accumulation": "gradient_accumulation_steps = 2 .now 1.",
    "batch": "per_device_train_batch_size = 1 .now 2.",
    "packing": "greedy_zero_padding = True .now False.",
    "length": "max_length = 96 .now 90.",
    "lora": "lora = False .now True.",
    "format": "unified_checkpoint = true",
    "processes": "processes = 2 .now 1.",
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_run_cannot_be_continued(start, out, data_folder, tmp_path, change):
    start()
    unmark(out)
    options = {
        "accumulation": {"gradient_accumulation_steps": 1},
        "batch": {"per_device_train_batch_size": 2},
        "packing": {"greedy_zero_padding": False},
        "length": {"max_length": 90},
        "lora": {"lora": True, "lora_rank": 4},
        "format": {"unified_checkpoint": False},
    }.get(change, {})
    if change == "data":
        rows = (data_folder / "train.json").read_text().splitlines(keepends=True)
        (tmp_path / "train.json").write_text("".join(rows[::-1]))
        options = {"dataset_name_or_path": str(tmp_path)}
    if change == "processes":
        path = out / "checkpoint-4" / "checkpoint.json"
        manifest = json.loads(path.read_text())
        manifest["run"]["processes"] = 2
        path.write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=f"checkpoint-4 .*{CHANGES[change]}"):
        start(max_steps=6, **options)
    if change == "accumulation":
        assert steps(start(max_steps=6, ignore_data_skip=True, **options)) == [5, 6]
        assert said(start, "note:", "gradient_accumulation_steps", "ignore_data_skip")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_a_run_with_another_tokenizer_cannot_be_continued(name, start, out, model_folders, tmp_path):
    model = shutil.copytree(model_folders["llama"], tmp_path / "model")
    start(model_name_or_path=str(model), max_steps=2)
    moved = model.rename(tmp_path / "moved")
    (moved / "README.md").write_text("other text")
    assert steps(start(model_name_or_path=str(moved), max_steps=3)) == [3]
    unmark(out)
    if name == "chat_template.json":
        (moved / name).write_text(json.dumps({"conversation": ["Q: {{user}}", "{{bot}}"], "query": "Q: {{query}}"}))
    else:
        config = json.loads((moved / name).read_text())
        (moved / name).write_text(json.dumps({**config, "truncation_side": "left"}))
    with pytest.raises(
        ConfigError, match="checkpoint-2 is of a run with another tokenizer or chat template: it cannot"
    ):
        start(model_name_or_path=str(moved), max_steps=4)


def test_a_copy_of_the_data_elsewhere_is_the_same_data(start, out, data_folder, tmp_path):
    start()
    shutil.copy(data_folder / "train.json", tmp_path / "train.json")
    assert steps(start(max_steps=5, dataset_name_or_path=str(tmp_path))) == [5]


def test_weights_with_nan_are_refused(start, out, model_folders, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folders["llama"], folder)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(folder)), dtype="float32")
    with paddle.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    model.save_pretrained(str(folder))
    found = "weights hold NaN or infinity after step 0, first in lm_head.weight"
    with pytest.raises(RunError, match=found):
        start(model_name_or_path=str(folder), continue_training=True)
    done = CliRunner().invoke(train_command, [str(tmp_path / "config.json")])
    assert done.exit_code == 1 and done.output.strip().endswith(f"Error: the {found}")


def test_weights_that_become_nan_stop_the_run_and_are_not_saved(start, out):
    """A learning rate beyond float32 makes the first step infinite; its loss is finite."""
    with pytest.raises(RunError, match="the weights hold NaN or infinity after step 1"):
        start(learning_rate=1e39, warmup_ratio=0.0, save_steps=1)
    assert not names(out)


def test_a_gradient_norm_of_nan_stops_before_the_step(start, out, monkeypatch):
    training_step = StepAverages.training_step

    def poisoned_step(self, model, inputs, step_control=0):
        loss = training_step(self, model, inputs, step_control)
        if self.state.global_step == 2 and model.lm_head.weight.grad is not None:
            gradient = model.lm_head.weight.grad
            gradient.set_value(gradient * float("nan"))
        return loss

    monkeypatch.setattr(StepAverages, "training_step", poisoned_step)
    with pytest.raises(RunError, match="the gradient norm of step 3 is NaN or infinite, first in lm_head.weight"):
        start()
    assert names(out) == {"checkpoint-2"}


def test_a_benchmark_says_that_it_saves_nothing(start, out):
    start()
    before = weights_in(out)
    start(benchmark=True, max_steps=2)
    assert said(start, "note: benchmark = true: no model and no checkpoint is saved")
    assert start.lines[-1].startswith("note: benchmark = true: no model was saved")
    np.testing.assert_equal(weights_in(out), before)
    assert names(out) == {"checkpoint-2", "checkpoint-4"}


def test_no_evaluation_means_none_while_training(start):
    result = start(do_eval=True, evaluation_strategy="no", eval_steps=1)
    assert [entry["step"] for entry in result.evaluations] == [4]
    assert said(start, 'evaluation_strategy = "no"')
