"""Every task with every model: `paddle-flashmask train` on columns, on the dense mask, and on every sample alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddle
import paddlenlp.transformers as paddlenlp_models
import pytest
from model_cases import BASE, MODELS, build, dispatch_without_gradient, repaired_router
from unpacked import run_apart

from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.train import train

DENSE = {"flash_mask": False, "use_flash_attention": False}
# With the usual epsilon of 1e-8 Adam turns the rounding of gradients near 0 into whole steps, which losses then show.
FIVE_STEPS = {"max_steps": 5, "adam_epsilon": 1e-6}
LORA = {"lora": True, "lora_rank": 4, "learning_rate": 1e-2}
CASES = {key: (key, {}) for key in TASKS} | {
    "policy": ("policy", {"share_prefixes": False}),
    "lora": ("sft", LORA),
    "dpo, no reference": ("dpo", {"reference_free": True}),
    "dpo, lora": ("dpo", LORA),
}
FIGURES = ("logps/chosen", "logps/rejected", "margin")


@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory) -> dict[str, str]:
    """Folders with a configuration and the tokenizer. Qwen2-MoE has weights too, with experts that differ from the
    start: PaddleNLP draws equal ones, and which are taken is rounding noise then."""
    found = {}
    for name, (family, extra) in MODELS.items():
        found[name] = str(tmp_path_factory.mktemp(name))
        tokenizer.save_pretrained(found[name])
        size = {"vocab_size": len(tokenizer), "max_position_embeddings": 512}
        if name == "qwen2_moe":
            build(name, **size).save_pretrained(found[name])
            continue
        config_class = getattr(paddlenlp_models, f"{family}Config")
        config = config_class(architectures=[f"{family}ForCausalLM"], **{**BASE, **extra, **size})
        config.save_pretrained(found[name])
    return found


def run(config: dict, folder: Path, monkeypatch) -> tuple[list[list[float]], list[dict[str, np.ndarray]]]:
    """Losses and FIGURES of five steps, and their gradients by parameter name."""
    gradients: list[dict[str, np.ndarray]] = []
    step = paddle.optimizer.AdamW.step

    def recorded_step(self):
        gradients.append({p.name: p.grad.numpy() for p in self._parameter_list if p.grad is not None})
        step(self)

    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps({**config, "output_dir": str(folder / "out")}))
    with monkeypatch.context() as patch:
        patch.setattr(paddle.optimizer.AdamW, "step", recorded_step)
        metrics = train(path, write=lambda line: None).metrics
    assert len(metrics) == len(gradients) == 5
    return [[entry[key] for entry in metrics] for key in ("loss", *FIGURES) if key in metrics[0]], gradients


def assert_same(found, expected) -> None:
    """Figures to 1e-5. Gradients of the first step, as vectors, to 1e-5 of their length, or 1e-7 of the longest, for a
    bias of keys has none but rounding; after it Adam has made whole steps of what was rounding in the smallest ones."""
    scale = max(abs(value) for values in expected[0] for value in values)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6 * scale)
    ours, theirs = found[1][0], expected[1][0]
    assert ours.keys() == theirs.keys()
    longest = max(np.linalg.norm(gradient) for gradient in theirs.values())
    for name, gradient in theirs.items():
        apart = np.linalg.norm(ours[name] - gradient)
        assert apart <= max(1e-5 * np.linalg.norm(gradient), 1e-7 * longest), name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", MODELS)
def test_columns_equal_the_dense_mask_and_each_sample_alone(name, case, folders, task_config, tmp_path, monkeypatch):
    key, options = CASES[case]
    config = {**task_config(key), "model_name_or_path": folders[name], **FIVE_STEPS, **options}
    config["continue_training"] = name == "qwen2_moe"
    lengths: list[int] = []
    with dispatch_without_gradient():
        found = run(config, tmp_path / "columns", monkeypatch)
        with repaired_router():
            dense = run({**config, **DENSE}, tmp_path / "dense", monkeypatch)
            with monkeypatch.context() as patch:
                run_apart(patch, lengths)
                alone = run({**config, **DENSE}, tmp_path / "alone", monkeypatch)
    assert lengths and max(lengths) < config[TASKS[key].max_length_key]  # less than a pack
    assert_same(found, dense)
    assert_same(found, alone)
