"""Supervised fine-tuning on packs equals PaddleNLP's dense mask, can be resumed, and reports its errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from paddlenlp.transformers import GPTConfig
from paddlenlp.transformers.llama import fusion_ops

from paddle_flashmask import functional
from paddle_flashmask.cli.train import train
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.train import train as train_from

DENSE = {"flash_mask": False, "use_flash_attention": False}


def small_config(request, folder: Path) -> dict:
    return request.getfixturevalue("sft_config")


@pytest.fixture
def run(sft_config, tmp_path):
    def run(**changes):
        lines = []
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**sft_config, **changes}))
        result = train_from(path, write=lines.append)
        run.lines = lines
        shutil.rmtree(sft_config["output_dir"], ignore_errors=True)
        return result

    return run


def losses(result) -> list[float]:
    return [loss for _, loss in result.losses]


@pytest.fixture
def operator_calls(monkeypatch):
    calls = []
    operator = functional.flashmask_attention
    monkeypatch.setattr(functional, "flashmask_attention", lambda *a, **k: calls.append(1) or operator(*a, **k))
    return calls


@pytest.mark.parametrize("name", ["llama", "qwen2"])
@pytest.mark.parametrize(
    "options",
    [
        {"lazy": True},
        {"lazy": False, "per_device_train_batch_size": 3},
        {"lazy": False, "greedy_zero_padding": False},
    ],
)
def test_losses_equal_those_of_the_dense_mask(run, model_folders, operator_calls, name, options):
    options = {**options, "model_name_or_path": str(model_folders[name])}
    before = fusion_ops.fusion_flash_attention
    packed = run(**options)
    assert len(operator_calls) == 3 * 2 * 2  # steps, accumulation, layers
    assert fusion_ops.fusion_flash_attention is before
    dense = run(**options, **DENSE)
    assert len(operator_calls) == 12
    assert len(packed.losses) == 3
    np.testing.assert_allclose(losses(packed), losses(dense), rtol=1e-5)
    assert packed.tokens == dense.tokens


def test_the_mask_matters(run):
    """The comparison above can fail: plain causal attention over the same packs gives other losses."""
    packed = run(lazy=False)
    single = run(lazy=False, **DENSE, zero_padding=False, greedy_zero_padding=False)
    assert np.abs(np.subtract(losses(packed), losses(single))).max() > 1e-3


def test_a_dense_mask_with_use_flash_attention_is_right(run):
    np.testing.assert_allclose(losses(run(lazy=False, flash_mask=False)), losses(run(lazy=False)), rtol=1e-5)


def test_paddlenlps_switch_that_drops_dense_masks_is_off(run, monkeypatch):
    """With USE_CASUAL_MASK its models replace any dense mask by a plain causal one; its script switches it off too."""
    columns = losses(run(lazy=False))
    monkeypatch.setenv("USE_CASUAL_MASK", "True")
    np.testing.assert_allclose(losses(run(lazy=False, **DENSE)), columns, rtol=1e-5)


def test_a_long_first_row_is_cut_and_fits(run, tmp_path):
    """PaddleNLP's stream without greedy packing raises IndexError there, and lets later ones exceed max_length."""
    rows = [{"src": "baling", "tgt": "chene dimor " * 60}, *[{"src": "rix", "tgt": "gramor ne"}] * 20]
    (tmp_path / "train.json").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    options = {"dataset_name_or_path": str(tmp_path), "greedy_zero_padding": False, "gradient_accumulation_steps": 1}
    result = run(**options)
    assert len(result.losses) == 3 and np.isfinite(losses(result)).all()
    assert result.cut_rows == 2 and result.packing.tokens <= result.packing.capacity


@pytest.mark.parametrize("granularity", ["full", "full_attn", "core_attn"])
def test_recompute_changes_no_loss(run, operator_calls, granularity):
    plain = run(lazy=False)
    once = len(operator_calls)
    again = run(lazy=False, recompute=True, recompute_granularity=granularity)
    assert len(operator_calls) == 3 * once
    np.testing.assert_allclose(losses(again), losses(plain), rtol=1e-6)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("unified_checkpoint", [True, False])
def test_a_resumed_run_continues_with_the_same_losses(run, sft_config, tmp_path, lazy, unified_checkpoint):
    """Step 5 lies in a later pass over the data, where the order is another one."""
    options = {
        "lazy": lazy,
        "unified_checkpoint": unified_checkpoint,
        "load_best_model_at_end": False,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 8,
    }
    whole = run(**options, save_strategy="steps", save_steps=5, save_total_limit=3, output_dir=str(tmp_path / "first"))
    assert whole.packing.packs < 5 * 4
    resumed = run(**options, resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-5"))
    assert [step for step, _ in resumed.losses] == [6, 7, 8]
    assert resumed.tokens < whole.tokens / 2
    np.testing.assert_allclose(losses(resumed), losses(whole)[5:], rtol=1e-6)


def test_a_run_finds_its_own_last_checkpoint(run, tmp_path):
    options = {"lazy": False, "output_dir": str(tmp_path / "run"), "load_best_model_at_end": False, "max_steps": 4}
    whole = run(**options, save_strategy="steps", save_steps=2, save_total_limit=3)
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    (tmp_path / "run" / "finished.json").unlink()
    resumed = run(**options)
    assert any("resuming from" in line and "checkpoint-2" in line for line in run.lines)
    np.testing.assert_allclose(losses(resumed), losses(whole)[2:], rtol=1e-6)
    afresh = run(**options, overwrite_output_dir=True)
    np.testing.assert_allclose(losses(afresh), losses(whole), rtol=1e-6)


def test_training_from_a_checkpoint(run, tmp_path):
    first = run(lazy=False, unified_checkpoint=False, output_dir=str(tmp_path / "first"), learning_rate=5e-3)
    assert (Path(first.output_dir) / "model_state.pdparams").is_file()
    second = run(lazy=False, model_name_or_path=first.output_dir, continue_training=True)
    assert losses(second)[0] < losses(first)[0] - 0.02


@pytest.mark.parametrize(("threads", "cores", "noted"), [("1", 4, True), ("2", 4, False), ("1", 1, False)])
def test_idle_cores_are_noted(run, monkeypatch, threads, cores, noted):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    run(max_steps=1)
    assert noted == any(f"1 thread of {cores} cores" in line for line in run.lines)


def test_evaluation_while_training(run):
    options = {"lazy": False, "do_eval": True, "evaluation_strategy": "steps", "eval_steps": 2, "max_steps": 4}
    packed = run(**options, load_best_model_at_end=False)
    dense = run(**options, load_best_model_at_end=False, **DENSE)
    assert [entry["step"] for entry in packed.evaluations] == [2, 4, 4]
    for key in ("eval_loss", "eval_accuracy"):
        np.testing.assert_allclose([e[key] for e in packed.evaluations], [e[key] for e in dense.evaluations], rtol=1e-5)
    assert any("evaluation loss" in line for line in run.lines)


def test_lora_trains_and_equals_the_dense_mask(run, tmp_path):
    options = {"lazy": False, "lora": True, "lora_rank": 4}
    packed = run(**options, output_dir=str(tmp_path / "lora"))
    assert list((tmp_path / "lora").glob("lora_model_state*")) or list((tmp_path / "lora").glob("peft_model*"))
    np.testing.assert_allclose(losses(packed), losses(run(**options, **DENSE)), rtol=1e-5)
    assert losses(packed)[2] < losses(packed)[0]


def test_the_summary_file_says_what_was_packed(run, tmp_path):
    result = run(lazy=False, output_dir=str(tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "training_summary.json").read_text())
    assert summary["packing"]["rows"] == 60 and summary["packing"]["dropped_rows"] == 0
    assert summary["packing"]["efficiency"] > 0.9
    assert [tuple(pair) for pair in summary["losses"]] == result.losses
    assert summary["tokens"] == result.tokens > 0


def test_random_weights_only_when_asked_for(run):
    with pytest.raises(ConfigError, match="no weights; to start from random weights set continue_training to false"):
        run(continue_training=True)


@pytest.mark.parametrize("key", ["model_name_or_path", "tokenizer_name_or_path"])
def test_a_folder_that_is_not_there_is_named(run, tmp_path, key):
    with pytest.raises(ConfigError, match=f"{key} = .*nowhere"):
        run(**{key: str(tmp_path / "nowhere")})


def test_models_that_do_not_fit_are_refused(run, tmp_path, tokenizer):
    folder = tmp_path / "gpt"
    tokenizer.save_pretrained(str(folder))
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = GPTConfig(vocab_size=len(tokenizer), **sizes)
    config.save_pretrained(str(folder))
    with pytest.raises(ConfigError, match="has no 'architectures'"):
        run(model_name_or_path=str(folder))
    config.architectures = ["GPTForCausalLM"]
    config.save_pretrained(str(folder))
    with pytest.raises(UnsupportedConfigError, match="GPTForCausalLM of PaddleNLP takes no column indices"):
        run(model_name_or_path=str(folder))


@pytest.mark.parametrize("name", ["nowhere", "true"])
def test_a_missing_checkpoint_is_named(run, name):
    with pytest.raises(ConfigError, match="resume_from_checkpoint"):
        run(resume_from_checkpoint=name)


def test_a_stream_without_a_number_of_steps_is_refused(run):
    with pytest.raises(ConfigError, match="lazy = true needs max_steps"):
        run(lazy=True, max_steps=-1, num_train_epochs=2)


def test_command_line(sft_config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(sft_config))
    done = CliRunner().invoke(train, [str(path), "--max_steps", "2", "--lazy", "false"])
    assert done.exit_code == 0, done.output
    assert "step 2/2  loss" in done.output and "efficiency" in done.output and "note: random weights" in done.output


def test_command_line_errors_are_one_line(sft_config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**sft_config, "flash_maks": True}))
    done = CliRunner().invoke(train, [str(path)])
    assert done.exit_code == 1
    assert done.output.strip() == "Error: unknown key 'flash_maks'; the nearest known one is 'flash_mask'"
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.json").write_text('{"src": "a", "tgt": "b"}\n{"src": "a"}\n')
    path.write_text(json.dumps({**sft_config, "dataset_name_or_path": str(data)}))
    for lazy in ("true", "false"):
        done = CliRunner().invoke(train, [str(path), "--lazy", lazy])
        assert done.exit_code == 1
        assert done.output.strip().endswith(f"Error: {data}/train.json:2: no 'tgt'; the row has 'src'")
