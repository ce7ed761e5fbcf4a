"""Attention dropout of a model's config.json is applied, or refused where PaddleNLP would leave it out."""

from __future__ import annotations

import json

import paddle
import pytest
from model_cases import MODELS, batch_of, build, dense_loss, packed_loss
from tiny import TINY

import paddle_flashmask
from paddle_flashmask.integrations.paddlenlp import UnsupportedConfigError, train
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect
from paddle_flashmask.integrations.paddlenlp.models.attention_dropout import APPLIED, COLUMNS, EAGER, FLASH
from paddle_flashmask.integrations.paddlenlp.models.table import FAMILIES


def test_every_family_is_in_the_table():
    assert {family.package for family in FAMILIES} == APPLIED.keys()


@pytest.mark.parametrize("path", [COLUMNS, FLASH, EAGER])
@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_what_models_do(name, path):
    batch, loss = batch_of("causal documents, n=1"), packed_loss if path == COLUMNS else dense_loss
    losses = []
    with paddle_flashmask.enabled():
        for dropout in (0.0, 0.5):
            model = build(name, flash=path != EAGER, attention_dropout=dropout)
            paddle.seed(3)
            losses.append(float(loss(model, batch)))
    assert (abs(losses[0] - losses[1]) > 1e-4) == (path in APPLIED[name])


@pytest.fixture
def with_dropout(model_folders, sft_config, tmp_path):
    """A function that makes the SFT configuration of a model with attention dropout."""

    def make(name: str) -> dict:
        folder = tmp_path / name
        folder.mkdir()
        for path in model_folders[name].iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**values, **TINY, "attention_dropout": 0.3}))
        return {**sft_config, "model_name_or_path": str(folder), "max_steps": 1, "load_best_model_at_end": False}

    return make


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_what_would_be_left_out_is_refused(name, with_dropout, tmp_path):
    config = with_dropout(name)
    for call in (train, inspect):
        with pytest.raises(
            UnsupportedConfigError, match="^attention_dropout = 0.3 in the model's config.json: .* 0 there"
        ):
            call(config, write=lambda line: None)
    assert not (tmp_path / "out" / "finished.json").exists()
    assert (", or train with neither flash_mask" in str(_error(config))) == (name == "qwen2")


def _error(config: dict) -> UnsupportedConfigError:
    with pytest.raises(UnsupportedConfigError) as caught:
        train(config, write=lambda line: None)
    return caught.value


def test_what_is_applied_is_trained(with_dropout):
    config = {**with_dropout("qwen2"), "flash_mask": False, "use_flash_attention": False}
    assert len(train(config, write=lambda line: None).losses) == 1
