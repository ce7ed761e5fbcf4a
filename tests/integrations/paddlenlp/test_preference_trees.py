"""share_prefixes for DPO, reward models and KTO: trees take the steps of rows apart, with fewer tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from sentences import write_rows
from talks import rounds_of_talks

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.packing import TreeReport

KEYS = ("dpo", "rm", "kto")
LORA = {"lora": True, "lora_rank": 4, "learning_rate": 1e-2}
DENSE = {"flash_mask": False, "use_flash_attention": False}
TIMES = ("runtime", "per_second", "steps_per_second", "epoch", "step", "memory", "learning_rate", "progress")


@pytest.fixture
def run(dpo_config, train_anew, tmp_path):
    """A function that trains a task, with all rows in every step."""

    def run(key: str, **changes):
        path = tmp_path / f"{key}.jsonl"
        write_rows(path, rounds_of_talks(key, talks=4, rounds=3))
        options = {"train_dataset_path": str(path), "dev_dataset_path": str(path), "lazy": False, "max_seq_len": 256}
        options |= {"per_device_train_batch_size": 99, "gradient_accumulation_steps": 1, "warmup_ratio": 0.0}
        options |= {"load_best_model_at_end": False, "max_prompt_len": 100}
        return train_anew(key, dpo_config, **{**options, **changes})

    return run


@pytest.fixture
def gradients(monkeypatch) -> list[dict[str, np.ndarray]]:
    """The gradients of every step that is taken, by the parameter's name."""
    seen = []
    step = paddle.optimizer.AdamW.step

    def record(self) -> None:
        seen.append({p.name: p.grad.numpy() for p in self._parameter_list if p.grad is not None})
        step(self)

    monkeypatch.setattr(paddle.optimizer.AdamW, "step", record)
    return seen


def compare_figures(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs) > 0
    for found, wanted in zip(ours, theirs, strict=True):
        names = [name for name in wanted if not any(word in name for word in TIMES)]
        assert names and all(name in found for name in names)
        for name in names:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    ("key", "name", "options"),
    [
        ("dpo", "llama", {"sft_loss_ratio": 0.5}),
        ("dpo", "qwen2", {"reference_free": True, "loss_type": "ipo", "sft_loss_ratio": 0.5}),
        ("dpo", "llama", LORA),
        ("rm", "qwen2", {}),
        ("rm", "llama", {"loss_type": "listwise", **LORA}),
        ("kto", "qwen2", {"undesirable_weight": 1.3}),
        ("kto", "llama", {**LORA, **DENSE}),
    ],
    ids=["dpo", "dpo, no reference", "dpo, LoRA", "rm", "rm, listwise, LoRA", "kto", "kto, LoRA, dense"],
)
def test_steps_are_those_of_rows_apart(key: str, name: str, options: dict, run, model_folders, gradients) -> None:
    options = {**options, "model_name_or_path": str(model_folders[name]), "max_seq_len": 128}
    apart = run(key, **options)
    trees = run(key, **options, share_prefixes=True)
    assert trees.packing.sequence_tokens == apart.packing.tokens > 1.5 * trees.packing.tokens
    assert trees.packing.packed_rows == apart.packing.packed_rows and trees.packing.packs > 1
    assert len(gradients) == 10
    compare_figures(trees.metrics, apart.metrics)
    for ours, theirs in zip(gradients[5:], gradients[:5], strict=True):
        assert len(ours) == len(theirs)
        longest = max(np.abs(gradient).max() for gradient in theirs.values())
        for found, wanted in zip(ours.values(), theirs.values(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * longest)
    assert trees.losses[0][1] != trees.losses[-1][1]


@pytest.mark.parametrize("key", ["dpo", "kto"])
def test_streams_evaluate_and_resume(key: str, run, tmp_path: Path) -> None:
    """All rows are in one buffer of the stream."""
    evaluation = {"do_eval": True, "evaluation_strategy": "steps", "eval_steps": 2, "share_prefixes": True}
    whole = run(key, max_steps=4, **{**evaluation, "share_prefixes": False})
    sizes = {"max_steps": 4, "per_device_eval_batch_size": 2, "lazy": True}
    saving = {"save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path / "first")}
    stream = run(key, **evaluation, **sizes, **saving)
    assert isinstance(stream.packing, TreeReport)
    compare_figures(stream.metrics, whole.metrics)
    compare_figures(stream.evaluations, whole.evaluations)
    resumed = run(key, **evaluation, **sizes, resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-2"))
    compare_figures(resumed.metrics, stream.metrics[2:])


def test_what_trees_do_not_support(run, model_folders, tmp_path: Path) -> None:
    for key in KEYS:
        with pytest.raises(ConfigError, match="share_prefixes = true needs loss_average = 'pairs'"):
            run(key, share_prefixes=True, loss_average="paddlenlp")
    folder = tmp_path / "experts"
    shutil.copytree(model_folders["llama"], folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "num_experts": 4}))
    with pytest.raises(UnsupportedConfigError, match="share_prefixes = true does not support mixture-of-experts"):
        run("dpo", share_prefixes=True, model_name_or_path=str(folder))
