"""SFT configurations: what parses, what is changed with a note, and what is rejected."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.config.values import read_values
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS


@pytest.fixture
def load(sft_config, tmp_path):
    def load(*overrides: str, without: str = "", **changes):
        path = tmp_path / "config.json"
        values = {key: value for key, value in {**sft_config, **changes}.items() if key != without}
        path.write_text(json.dumps(values))
        return TASKS["sft"].arguments(read_values(path, overrides))

    return load


def test_the_published_keys_parse(load):
    arguments = load()
    assert arguments.model.flash_mask and arguments.data.zero_padding and arguments.training.use_flash_attention
    assert (arguments.data.src_length, arguments.data.max_length) == (60, 96)
    assert arguments.training.report_to == ["visualdl"]
    notes = "\n".join(arguments.notes)
    assert "tensor_parallel_degree = 2 has no effect" in notes
    assert "sharding = 'stage2' has no effect" in notes
    assert "float32 instead of 16 bits" in notes and not arguments.training.bf16


def test_overrides_win(load):
    arguments = load("--max_steps", "7", "--learning_rate=1e-5", "--lazy", "false")
    assert (arguments.training.max_steps, arguments.training.learning_rate, arguments.data.lazy) == (7, 1e-5, False)


def test_null_means_absent(load):
    assert load(pad_to_multiple_of=None).data.pad_to_multiple_of is None


@pytest.mark.parametrize("key", ["zero_padding", "use_flash_attention"])
def test_flash_mask_switches_on_what_it_needs_and_says_so(load, key):
    arguments = load(**{key: False, "greedy_zero_padding": False})
    assert arguments.data.zero_padding and arguments.training.use_flash_attention
    assert any(note.startswith(f"{key} is switched on") for note in arguments.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flash_maks": True}, "unknown key 'flash_maks'; the nearest known one is 'flash_mask'"),
        ({"max_lenght": 8}, "unknown key 'max_lenght'; the nearest known one is 'max_length'"),
        ({"max_seq_len": 8}, "'max_seq_len' is a key of dpo, rm, kto; use 'max_length' here"),
        ({"max_length": "long"}, "max_length = 'long' must be an integer"),
        ({"lazy": "perhaps"}, "lazy = 'perhaps' must be true or false"),
        ({"src_length": 96}, "src_length = 96 must be positive and below max_length = 96"),
        ({"flash_mask": False, "zero_padding": False}, "greedy_zero_padding = true needs zero_padding = true"),
        ({"do_train": False}, "neither do_train nor do_eval"),
        ({"device": "gpu"}, "device = 'gpu', but this Paddle is built without CUDA"),
        ({"bf16": False}, "fp16_opt_level = 'O2' needs bf16 or fp16"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of = 0 must be at least 1"),
        ({"pad_to_multiple_of": 7, "pad_to_max_length": True}, "96 is not a multiple of pad_to_multiple_of = 7"),
    ],
)
def test_what_cannot_be_is_named(load, changes, message):
    with pytest.raises(ConfigError, match=message):
        load(**changes)


@pytest.mark.parametrize("key", ["model_name_or_path", "dataset_name_or_path"])
def test_a_missing_path_is_named(load, key):
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        load(without=key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefix_tuning": True}, "prefix_tuning = True is not supported in this release"),
        ({"eval_with_do_generation": True}, "eval_with_do_generation = True is not supported in this release"),
        ({"weight_quantize_algo": "nf4"}, "weight_quantize_algo = 'nf4' is not supported in this release"),
    ],
)
def test_what_this_release_does_not_do_is_named(load, changes, message):
    with pytest.raises(UnsupportedConfigError, match=message):
        load(**changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [(("max_steps", "7"), "expected --key value"), (("--max_steps",), "--max_steps needs a value")],
)
def test_bad_overrides_are_named(load, words, message):
    with pytest.raises(ConfigError, match=message):
        load(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"lazy": true,\n"lora" false}', r"config.json:3: not valid JSON"),
        ('{"lazy": true, "lazy": false}', "duplicate key 'lazy'"),
        ("[1]", "expected a JSON object of configuration keys; got list"),
    ],
)
def test_broken_json_is_named(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_values(path)
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        read_values(tmp_path / "none.json")


def test_the_backend_is_named(load, monkeypatch):
    assert load().backend == load(flashmask_backend="paddle_flashmask").backend == "paddle_flashmask"
    with pytest.raises(ConfigError, match="flashmask_backend = 'torch' must be one of paddle_flashmask, paddle"):
        load(flashmask_backend="torch")
    with pytest.raises(UnsupportedConfigError, match="this Paddle is built without CUDA and has no FlashMask"):
        load(flashmask_backend="paddle")
