"""`attention_mask_type`: training on columns of every kind equals the dense mask and each document alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from unpacked import run_apart

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError

DENSE = {"flash_mask": False, "use_flash_attention": False}
TYPES = {
    "document": {"attention_mask_type": "document"},
    "prefix": {"attention_mask_type": "prefix_lm_document"},
    "window": {"attention_mask_type": "sliding_window", "attention_window_size": 4},
}


@pytest.fixture
def run(sft_config, train_anew):
    def run(**changes):
        result = train_anew("sft", {**sft_config, "max_steps": 5}, **changes)
        assert len(result.losses) == 5
        return result

    return run


def losses(result) -> list[float]:
    return [loss for _, loss in result.losses]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("name", "options"),
    [("llama", {"lazy": True}), ("qwen2", {"lazy": False, "per_device_train_batch_size": 2, "recompute": True})],
)
def test_columns_equal_the_dense_mask_and_each_document_alone(run, model_folders, monkeypatch, kind, name, options):
    options = {**TYPES[kind], **options, "model_name_or_path": str(model_folders[name])}
    packed, dense = run(**options), run(**options, **DENSE)
    assert packed.tokens == dense.tokens
    np.testing.assert_allclose(losses(packed), losses(dense), rtol=1e-5)
    lengths: list[int] = []
    with monkeypatch.context() as patch:
        run_apart(patch, lengths, keep_mask=True)
        alone = run(**options, **DENSE)
    assert lengths and max(lengths) < 96
    np.testing.assert_allclose(losses(packed), losses(alone), rtol=1e-5)


def test_every_kind_is_another_mask(run):
    kinds = {kind: run(**options) for kind, options in {"": {}, **TYPES}.items()}
    first = [losses(result)[1] for result in kinds.values()]
    assert min(abs(a - b) for i, a in enumerate(first) for b in first[:i]) > 1e-6
    density = {kind: result.packing.mask_density for kind, result in kinds.items()}
    assert density["window"] < density[""] < density["prefix"] < density["document"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_mask_type": "prefix_lm"}, "must be one of causal_document, .*; the nearest one is 'prefix_lm_doc"),
        ({"attention_mask_type": "sliding_window"}, "needs attention_window_size"),
        ({"attention_mask_type": "document", "attention_window_size": 3}, "belongs to sliding_window, not to 'docum"),
        ({"attention_mask_type": "sliding_window", "attention_window_size": 0}, "must be at least 1"),
        ({"task": "dpo", "attention_mask_type": "document"}, "'attention_mask_type' is a key of sft alone"),
    ],
)
def test_what_does_not_go_together_is_named(run, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(**changes)


def test_mistral_without_columns_would_be_causal(run, sft_config, model_folders, tmp_path):
    folder = tmp_path / "mistral"
    shutil.copytree(model_folders["llama"], folder)
    config = json.loads((folder / "config.json").read_text())
    mistral = {**config, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    (folder / "config.json").write_text(json.dumps(mistral))
    with pytest.raises(UnsupportedConfigError, match="'document' needs flash_mask: PaddleNLP's Mistral"):
        run(model_name_or_path=str(folder), **TYPES["document"], **DENSE)
