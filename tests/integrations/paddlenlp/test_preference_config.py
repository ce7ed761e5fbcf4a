"""Configurations of DPO, reward models and KTO: what parses, what is changed with a note, and what is rejected."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.config.values import read_values
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS


@pytest.fixture
def load(dpo_config, tmp_path):
    def load(task="dpo", without="", **changes):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({k: v for k, v in {**dpo_config, **changes}.items() if k != without}))
        return TASKS[task].arguments(read_values(path))

    return load


def test_the_published_keys_parse(load):
    arguments = load()
    assert (arguments.data.max_seq_len, arguments.data.max_prompt_len, arguments.options.beta) == (128, 60, 0.1)
    notes = "\n".join(arguments.notes)
    assert "tensor_parallel_degree = 4 has no effect" in notes and "float32 instead of 16 bits" in notes
    assert not arguments.training.bf16
    reward = load("rm", dev_dataset_path="x", benchmark=True)
    assert reward.options.loss_type == "pairwise" and reward.training.benchmark


def test_what_is_switched_on_is_said(load):
    arguments = load(loss_type="orpo")
    assert (arguments.options.loss_type, arguments.options.sft_loss_ratio) == ("or", 1.0)
    assert any(note.startswith("loss_type orpo is 'or'") for note in arguments.notes)
    arguments = load(loss_type="simpo", use_flash_attention=False)
    assert arguments.options.reference_free and arguments.training.use_flash_attention
    assert any(note.startswith("reference_free is switched on") for note in arguments.notes)


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("dpo", {"loss_typ": "ipo"}, "unknown key 'loss_typ'; the nearest known one is 'loss_type'"),
        ("dpo", {"max_seq_lenght": 8}, "unknown key 'max_seq_lenght'; the nearest known one is 'max_seq_len'"),
        ("dpo", {"zero_padding": True}, "'zero_padding' is a key of sft, policy; use 'greedy_zero_padding' here"),
        ("rm", {"beta": 0.1}, "'beta' is a key of dpo, kto, policy alone"),
        ("dpo", {"loss_type": "dpo"}, "loss_type = 'dpo' must be one of sigmoid, hinge, ipo"),
        ("dpo", {"loss_type": "simpo", "reference_free": False}, "loss_type = 'simpo' has no reference"),
        ("dpo", {"loss_type": "dpop", "reference_free": True}, "loss_type = 'dpop' needs a reference"),
        ("dpo", {"loss_type": "ipo", "label_smoothing": 0.1}, "label_smoothing has no effect with loss_type = 'ipo'"),
        ("dpo", {"beta": 0}, "beta = 0 must be above 0"),
        ("dpo", {"max_prompt_len": 128}, "max_prompt_len = 128 must be positive and below max_seq_len = 128"),
        ("dpo", {"lora": True, "pissa": True}, "pissa = true changes the base weights"),
        ("dpo", {"lora_alpha": 8}, "lora_alpha without lora = true"),
        ("dpo", {"do_eval": True}, "contradicts itself: --load_best_model_at_end"),
        ("dpo", {"do_eval": True, "load_best_model_at_end": False}, "dev_dataset_path is missing"),
        ("dpo", {"pad_to_multiple_of": 7, "pad_to_max_length": True}, "128 is not a multiple of pad_to_multiple_of"),
        ("rm", {"loss_type": "sigmoid"}, "loss_type = 'sigmoid' must be one of pairwise, listwise"),
    ],
)
def test_what_cannot_be_is_named(load, task, changes, message):
    with pytest.raises(ConfigError, match=message):
        load(task, **changes)


def test_missing_data_is_named(load):
    with pytest.raises(ConfigError, match="train_dataset_path is missing"):
        load(without="train_dataset_path")


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("dpo", {"ref_model_update_steps": 5}, "ref_model_update_steps = 5 is not supported in this release"),
        ("dpo", {"weight_quantize_algo": "nf4"}, "weight_quantize_algo = 'nf4' is not supported in this release"),
    ],
)
def test_what_this_release_does_not_do_is_named(load, task, changes, message):
    with pytest.raises(UnsupportedConfigError, match=message):
        load(task, **changes)
