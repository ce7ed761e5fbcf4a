"""`paddle-flashmask train` with models other than Llama and Qwen2: the losses of PaddleNLP's dense mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import paddlenlp.transformers as paddlenlp_models
import pytest
from click.testing import CliRunner
from model_cases import BASE, MODELS, dispatch_without_gradient

from paddle_flashmask.cli.train import train as train_command


def losses(config: dict, tmp_path: Path, **changes) -> list[float]:
    run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    run.mkdir()
    path = run / "config.json"
    path.write_text(json.dumps({**config, "output_dir": str(run / "out"), **changes}))
    result = CliRunner().invoke(train_command, [str(path)])
    assert result.exit_code == 0, result.output
    return [loss for _, loss in json.loads((run / "out" / "training_summary.json").read_text())["losses"]]


def model_folder(name: str, tokenizer, tmp_path: Path) -> str:
    """A folder with a configuration and the tokenizer, no weights."""
    family, extra = MODELS[name]
    folder = tmp_path / "model"
    tokenizer.save_pretrained(str(folder))
    options = {**BASE, **extra, "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    config_class = getattr(paddlenlp_models, f"{family}Config")
    config_class(architectures=[f"{family}ForCausalLM"], **options).save_pretrained(str(folder))
    return str(folder)


@pytest.mark.parametrize("name", ["mistral", "gemma", "qwen2_moe", "deepseek_v2", "deepseek_v3"])
def test_sft_on_columns_equals_the_dense_mask(name, sft_config, tokenizer, tmp_path):
    config = {**sft_config, "model_name_or_path": model_folder(name, tokenizer, tmp_path), "max_steps": 5}
    with dispatch_without_gradient():
        found = losses(config, tmp_path)
        expected = losses(config, tmp_path, flash_mask=False, zero_padding=True, use_flash_attention=True)
    assert len(found) == 5
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_lora_on_columns_equals_the_dense_mask(sft_config, tokenizer, tmp_path):
    folder = model_folder("mistral", tokenizer, tmp_path)
    config = {**sft_config, "model_name_or_path": folder, "max_steps": 5, "lora": True, "lora_rank": 4}
    expected = losses(config, tmp_path, flash_mask=False, zero_padding=True, use_flash_attention=False)
    np.testing.assert_allclose(losses(config, tmp_path), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["mistral", "gemma"])
def test_dpo_on_columns_equals_the_dense_mask(name, dpo_config, tokenizer, tmp_path):
    config = {**dpo_config, "model_name_or_path": model_folder(name, tokenizer, tmp_path), "task": "dpo"}
    found = losses(config, tmp_path)
    expected = losses(config, tmp_path, flash_mask=False, use_flash_attention=False)
    assert abs(found[1] - found[0]) > 1e-3  # the first loss is the same under any mask
    np.testing.assert_allclose(found, expected, rtol=1e-5)
