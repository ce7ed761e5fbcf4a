"""DPO on packed pairs equals the dense mask and the unpacked run, with a reference, without one, and with LoRA."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from unpacked import run_apart

from paddle_flashmask.cli.train import train as train_command
from paddle_flashmask.integrations.paddlenlp.errors import DataError, UnsupportedConfigError
from paddle_flashmask.packing import PreferenceCollator

DENSE = {"flash_mask": False, "use_flash_attention": False}


def small_config(request, folder: Path) -> dict:
    return request.getfixturevalue("dpo_config")


@pytest.fixture
def run(dpo_config, train_anew):
    return functools.partial(train_anew, "dpo", dpo_config)


COMPARED = ("loss", "logps/chosen", "logps/rejected", "rewards/margins")


def compare(result, other) -> None:
    assert len(result.losses) == len(other.losses) == 5
    for key in COMPARED:
        ours, theirs = ([entry[key] for entry in one.metrics] for one in (result, other))
        scale = np.abs([entry["logps/chosen"] for entry in other.metrics]).max() if key == "rewards/margins" else 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * scale, err_msg=key)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama", {}),
        ("llama", {"reference_free": True, "sft_loss_ratio": 0.5}),
        ("llama", {"lora": True, "lora_rank": 4, "learning_rate": 1e-2, "lazy": False}),
        ("qwen2", {"loss_type": "ipo", "per_device_train_batch_size": 2}),
    ],
)
def test_packed_pairs_equal_the_dense_mask_and_each_answer_alone(run, model_folders, monkeypatch, name, options):
    options = {**options, "model_name_or_path": str(model_folders[name])}
    packed, dense = run(**options), run(**options, **DENSE)
    assert packed.packing.documents_per_pack > 1.5
    compare(packed, dense)
    lengths = []
    with monkeypatch.context() as patch:
        run_apart(patch, lengths)
        alone = run(**options, **DENSE)
    assert lengths and max(lengths) < 128
    compare(packed, alone)
    assert packed.losses[0][1] != packed.losses[-1][1]


def test_the_mask_matters(run, monkeypatch):
    """The comparison above can fail: with plain causal attention the rejected answer sees the chosen one."""
    packed = run()
    with monkeypatch.context() as patch:
        patch.setattr(PreferenceCollator, "__call__", _causal(PreferenceCollator.__call__))
        wrong = run()
    differences = np.subtract(*([entry["logps/rejected"] for entry in one.metrics] for one in (packed, wrong)))
    assert np.abs(differences).max() > 1e-2


def _causal(collate):
    def collate_without_mask(self, packs):
        batch = collate(self, packs)
        batch["startend_row_indices"][:] = batch["input_ids"].shape[1]
        return batch

    return collate_without_mask


def test_the_reference_of_lora_is_the_base_without_adapters(run):
    def reference(result, key):
        return [entry[f"logps/{key}"] - entry[f"rewards/{key}"] / 0.1 for entry in result.metrics]

    lora, full = run(lora=True, lora_rank=4, learning_rate=2e-2), run()
    assert abs(lora.metrics[-1]["rewards/chosen"]) > 1e-3
    for key in ("chosen", "rejected"):
        np.testing.assert_allclose(reference(lora, key), reference(full, key), rtol=1e-5)


def test_the_first_token_of_the_rejected_answer_counts(run, tmp_path):
    """PaddleNLP's script omits it. An answer has one log-probability, whether it is the chosen or the rejected one."""
    path = tmp_path / "pair.jsonl"
    found = []
    for sort in ([1, 0], [0, 1]):
        row = {"src": "baling chene", "tgt": "", "response": ["dimor rix", "folrix"], "sort": sort}
        path.write_text(json.dumps(row) + "\n")
        (entry,) = run(train_dataset_path=str(path), max_steps=1, gradient_accumulation_steps=1).metrics
        found.append((entry["logps/chosen"], entry["logps/rejected"]))
    assert found[0] == pytest.approx(found[1][::-1], rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"lora": True, "lora_rank": 4}])
def test_a_resumed_run_keeps_its_reference_and_its_losses(run, tmp_path, options):
    options = {**options, "lazy": False, "load_best_model_at_end": False, "max_steps": 6, "num_train_epochs": 3}
    whole = run(**options, save_strategy="steps", save_steps=3, output_dir=str(tmp_path / "first"))
    resumed = run(**options, resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-3"))
    assert [step for step, _ in resumed.losses] == [4, 5, 6]
    for key in COMPARED:
        ours, theirs = ([entry[key] for entry in one.metrics[-3:]] for one in (resumed, whole))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=key)


def test_training_goes_on_from_the_saved_model(run, tmp_path):
    first = run(output_dir=str(tmp_path / "first"), unified_checkpoint=False, learning_rate=1e-2)
    second = run(model_name_or_path=first.output_dir, continue_training=True)
    assert second.metrics[0]["rewards/margins"] == 0  # the reference is the new start
    assert second.metrics[0]["logps/chosen"] != first.metrics[0]["logps/chosen"]


def test_evaluation_while_training(run, preference_file):
    options = {"do_eval": True, "dev_dataset_path": str(preference_file), "evaluation_strategy": "steps"}
    options |= {"eval_steps": 3, "max_steps": 3, "load_best_model_at_end": False, "lazy": False}
    packed, dense = run(**options), run(**options, **DENSE)
    assert [entry["step"] for entry in packed.evaluations] == [3, 3]
    for key in ("eval_loss", "eval_logps/chosen", "eval_rewards/accuracies"):
        np.testing.assert_allclose([e[key] for e in packed.evaluations], [e[key] for e in dense.evaluations], rtol=1e-5)


@pytest.mark.parametrize("loss", ["hinge", "simpo", "orpo", "sppo_hard", "nca_pair", "dpop", "kto_pair"])
def test_every_loss_type_runs(run, loss):
    assert len(run(loss_type=loss, max_steps=2).losses) == 2


def test_too_little_data_for_a_step_is_named(run, tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"prompt": "baling chene", "chosen": "dimor", "rejected": "rix"}) + "\n")
    with pytest.raises(DataError, match="makes 1 batch of 1 pack, fewer than gradient_accumulation_steps = 2"):
        run(train_dataset_path=str(path))


def test_command_line(dpo_config, tmp_path):
    config, data = tmp_path / "config.json", tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"baling chene {'rix ' * i}", "chosen": "dimor", "rejected": "gramor ne"} for i in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config.write_text(json.dumps({**dpo_config, "train_dataset_path": str(data), "max_seq_len": 64, "lazy": False}))
    done = CliRunner().invoke(train_command, [str(config), "--task", "dpo", "--max_steps", "2"])
    assert done.exit_code == 0, done.output
    assert "step 2/2  loss" in done.output and "accuracy" in done.output and "efficiency" in done.output
    done = CliRunner().invoke(train_command, [str(config)])
    assert done.exit_code == 1 and "fits several tasks" in done.output
    data.write_text(data.read_text() + json.dumps({"prompt": "baling", "chosen": "dimor"}) + "\n")
    done = CliRunner().invoke(train_command, [str(config), "--task", "dpo", "--output_dir", str(tmp_path / "new")])
    assert done.exit_code == 1
    assert done.output.strip().endswith(f"Error: {data}:13: no 'rejected'; the row has 'prompt', 'chosen'")


def test_sparse_heads_are_refused(run, model_folders, tmp_path):
    folder = tmp_path / "sparse"
    shutil.copytree(model_folders["llama"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "use_sparse_head_and_loss_fn": True}))
    with pytest.raises(UnsupportedConfigError, match="use_sparse_head_and_loss_fn in the model's config.json"):
        run(model_name_or_path=str(folder))
