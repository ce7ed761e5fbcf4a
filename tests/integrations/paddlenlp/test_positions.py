"""Documents beyond max_position_embeddings: the loss of a model with a longer table, or a refusal with both numbers."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest
from paddlenlp.transformers import AutoConfig, LlamaConfig
from sentences import sentence, write_rows
from tiny import TINY

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.models.positions import check_positions
from paddle_flashmask.integrations.paddlenlp.train import train


@pytest.fixture
def evaluate(tokenizer, sft_config, dpo_config, tmp_path):
    """Evaluate one random model, with the table of its configuration, on documents of some 150 tokens."""
    rng = random.Random(3)
    rows = [{"src": sentence(rng, 5, 9), "tgt": sentence(rng, 60, 64)} for _ in range(4)]
    write_rows(tmp_path / "dev.json", rows)
    pairs = [{"prompt": row["src"], "chosen": row["tgt"], "rejected": row["src"]} for row in rows]
    write_rows(tmp_path / "pairs.jsonl", pairs)

    def run(task: str = "sft", max_length: int = 400, **changes) -> tuple[float, list[str]]:
        folder, lines = tmp_path / "model", []
        tokenizer.save_pretrained(str(folder))
        settings = {**TINY, "initializer_range": 0.3, **changes}
        LlamaConfig(vocab_size=len(tokenizer), architectures=["LlamaForCausalLM"], **settings).save_pretrained(
            str(folder)
        )
        values = {
            "sft": {**sft_config, "dataset_name_or_path": str(tmp_path), "max_length": max_length},
            "dpo": {**dpo_config, "dev_dataset_path": str(tmp_path / "pairs.jsonl"), "max_seq_len": max_length},
        }[task]
        values |= {"task": task, "model_name_or_path": str(folder), "do_train": False, "do_eval": True}
        values |= {"load_best_model_at_end": False, "continue_training": False, "seed": 5}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(values))
        return train(path, write=lines.append).evaluations[-1]["eval_loss"], lines

    return run


@pytest.mark.parametrize("task", ["sft", "dpo"])
def test_a_short_table_is_extended(evaluate, task):
    """The reference of DPO has a table of its own."""
    loss, lines = evaluate(task, max_position_embeddings=48)
    assert any("= 400 is above max_position_embeddings = 48: the rotary table is extended" in line for line in lines)
    expected, lines = evaluate(task, max_position_embeddings=512)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert not any("max_position_embeddings" in line for line in lines)


def test_scaling_by_the_length_of_the_pack_is_refused(evaluate):
    scaling = {"rope_scaling_type": "dynamic_ntk", "rope_scaling_factor": 2.0}
    with pytest.raises(ConfigError, match="max_length = 400 is above max_position_embeddings = 48 of the model"):
        evaluate(max_position_embeddings=48, **scaling)
    loss, _ = evaluate(max_position_embeddings=512, **scaling)
    assert loss == pytest.approx(evaluate(max_position_embeddings=512)[0], rel=1e-6)


@pytest.mark.parametrize("kind", ["linear", "ntk"])
def test_fixed_scaling_extends_its_table(evaluate, kind):
    loss, _ = evaluate(max_position_embeddings=48, rope_scaling_type=kind, rope_scaling_factor=2.0)
    expected, _ = evaluate(max_position_embeddings=512, rope_scaling_type=kind, rope_scaling_factor=2.0)
    assert loss == pytest.approx(expected, rel=1e-6)


LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


@pytest.mark.parametrize(
    ("model_type", "settings", "named"),
    [
        ("llama", {"rope_scaling": LONGROPE}, "longrope"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "yarn"),
        ("qwen2", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "yarn"),
        ("qwen2", {"rope_scaling_type": "linear", "rope_scaling_factor": 2.0}, "linear"),
        ("mistral", {"rope_scaling": LONGROPE}, "longrope"),
        ("gemma", {"rope_scaling_type": "dynamic_ntk"}, "dynamic_ntk"),
    ],
)
def test_scaling_that_paddlenlp_ignores_is_refused(model_type, settings, named):
    config = SimpleNamespace(model_type=model_type, max_position_embeddings=64, **settings)
    with pytest.raises(UnsupportedConfigError, match=f"'{named}' in the model's config.json: PaddleNLP ignores it for"):
        check_positions(config, 32, "max_length")


def test_scaling_that_is_kept_passes(tmp_path):
    for kind in ("yarn", "linear"):
        settings = {
            "model_type": "deepseek_v2",
            "max_position_embeddings": 64,
            "rope_scaling": {"type": kind, "factor": 4},
        }
        (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": ["DeepseekV2ForCausalLM"]}))
        assert check_positions(AutoConfig.from_pretrained(str(tmp_path)), 64, "max_length") == []


def test_tables_beyond_the_memory_are_refused(evaluate):
    message = (
        r"max_length = 999999999 is above max_position_embeddings = 48 .* would take [\d,]+ GiB, and this machine has"
    )
    with pytest.raises(ConfigError, match=message):
        evaluate(max_position_embeddings=48, max_length=999_999_999)
