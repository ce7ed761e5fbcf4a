"""Keys and numbers of configurations: all of them known, settled or refused by name, before Paddle is imported."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_flashmask.integrations.paddlenlp.config.keys import OTHER_RELEASES, TYPES, UNSUPPORTED_KEYS
from paddle_flashmask.integrations.paddlenlp.config.known import SYNONYMS
from paddle_flashmask.integrations.paddlenlp.config.reporting import PACKAGES
from paddle_flashmask.integrations.paddlenlp.config.switches import GPU_ONLY, LORA_ONLY, REFUSED, WITHOUT_EFFECT
from paddle_flashmask.integrations.paddlenlp.config.values import check_early, read_values
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS, write_keys

# Switches that do in this trainer what they do in PaddleNLP's, or what docs/training.md states.
WORKING = {
    *("autotuner_benchmark", "benchmark", "bf16", "fp16", "continue_training", "dataloader_drop_last"),
    *("ddp_find_unused_parameters", "disable_tqdm", "do_eval", "do_train", "flash_mask", "fuse_attention_ffn"),
    *("fuse_attention_qkv", "greater_is_better", "greedy_zero_padding", "ignore_data_skip", "ignore_load_lr_and_optim"),
    *("ignore_save_lr_and_optim", "lazy", "load_best_model_at_end", "log_on_each_node", "logging_first_step", "lora"),
    *("overwrite_output_dir", "pad_to_max_length", "pissa", "recompute", "recompute_use_reentrant", "release_grads"),
    *("rslora", "save_on_each_node", "skip_memory_metrics", "skip_profile_timer", "unified_checkpoint"),
    *("use_flash_attention", "use_quick_lora", "zero_padding", "rslora_plus", "reference_free", "share_prefixes"),
}
NEEDED = dict.fromkeys(("pissa", "rslora", "rslora_plus", "use_quick_lora"), {"lora": True})


@pytest.fixture
def config_file(tmp_path):
    def write(values: dict) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(values))
        return path

    return write


def fields(task) -> list[dataclasses.Field]:
    return [field for group in task.groups for field in dataclasses.fields(group) if field.init]


def test_the_table_of_keys_is_that_of_the_tasks():
    assert write_keys.PATH.read_text() == write_keys.text(), "run the module write_keys"
    assert TYPES.keys() >= UNSUPPORTED_KEYS and not OTHER_RELEASES & TYPES.keys()


SWITCHES = [
    (task, field.name) for task in TASKS.values() for field in fields(task) if "bool" in str(field.type).lower()
]


@pytest.mark.parametrize(("task", "key"), SWITCHES, ids=lambda value: getattr(value, "key", value))
def test_every_switch_works_or_is_named(task, key, task_config, config_file):
    base = {**task_config(task.key), "load_best_model_at_end": False, "bf16": False, "fp16_opt_level": "O1"}
    if key == "do_eval" and "train_dataset_path" in base:
        base["dev_dataset_path"] = base["train_dataset_path"]
    path = config_file({**base, **NEEDED.get(key, {}), key: True})
    try:
        arguments = task.arguments(read_values(path))
    except (ConfigError, UnsupportedConfigError) as error:
        assert key in str(error)
        assert key not in WORKING or (key, task.key) in (("pissa", "kto"), ("pissa", "dpo"))
        return
    noted = any(key in note for note in arguments.notes)
    assert noted or key in WORKING, f"{key} does nothing, and no note reports it"


@pytest.mark.parametrize("key", LORA_ONLY)
def test_switches_of_adapters_need_adapters(key, sft_config, config_file):
    notes = TASKS["sft"].arguments(read_values(config_file({**sft_config, key: True}))).notes
    assert f"{key} has no effect: lora is not true" in notes


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"use_async_save": True}, "use_async_save has no effect: a checkpoint must be whole before training goes on"),
        (
            {"unified_checkpoint": True, "unified_checkpoint_config": "async_save"},
            "async_save of unified_checkpoint_config has no effect: a checkpoint must be whole before training goes on",
        ),
        (
            {"unified_checkpoint": False, "unified_checkpoint_config": "async_save"},
            "unified_checkpoint_config has no effect: unified_checkpoint is not true",
        ),
    ],
)
def test_asynchronous_saves_are_noted_alike(changes, note, sft_config, config_file):
    arguments = TASKS["sft"].arguments(read_values(config_file({**sft_config, **changes})))
    assert any(found.startswith(note) for found in arguments.notes)
    assert not arguments.training.use_async_save and "async_save" not in (
        arguments.training.unified_checkpoint_config if arguments.training.unified_checkpoint else ""
    )


def test_the_tables_do_not_overlap():
    tables = [set(REFUSED), set(WITHOUT_EFFECT), set(GPU_ONLY), WORKING]
    assert sum(map(len, tables)) == len(set().union(*tables))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", float("nan"), "must be a finite number"),
        ("learning_rate", "inf", "must be a finite number"),
        ("learning_rate", 0, "must be above 0"),
        ("learning_rate", -1e-5, "must be above 0"),
        ("weight_decay", float("inf"), "must be a finite number"),
        ("per_device_train_batch_size", 0, "must be at least 1"),
        ("per_device_eval_batch_size", -1, "must be at least 1"),
        ("gradient_accumulation_steps", 0, "must be at least 1"),
        ("lora_rank", 0, "must be at least 1"),
        ("lora_rank", "-8", "must be at least 1"),
        ("seed", -1, "must be at least 0 and at most 4294967295$"),
        ("max_steps", 0, "must be at least 1, or -1"),
        ("warmup_ratio", 1.5, "must be at least 0 and at most 1"),
        ("adam_beta1", 1, "must be at least 0 and below 1"),
        ("adam_beta2", "1.0", "must be at least 0 and below 1"),
        ("adam_epsilon", 0, "must be above 0"),
        ("max_grad_norm", float("nan"), "must be a finite number"),
        ("hidden_dropout_prob", float("nan"), "must be a finite number"),
    ],
)
def test_impossible_numbers_are_refused_by_name(key, value, expected, sft_config, config_file):
    path = config_file({**sft_config, key: value})
    for check in (check_early, lambda path: TASKS["sft"].arguments(read_values(path))):
        with pytest.raises(ConfigError, match=f"^{key} = {value} {expected}"):
            check(path)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("learning_rat", "learning_rate"),
        ("lr", "learning_rate"),
        ("batch_size", "per_device_train_batch_size"),
        ("cutoff_len", "max_length"),
        ("lora_r", "lora_rank"),
        ("colour", None),
        ("use_liger_kernel", None),
        ("warmup", None),
        ("use_flash_attn", "use_flash_attention"),
        ("gradient_accumulation", "gradient_accumulation_steps"),
        ("gradient_checkpointing", "recompute"),
        ("eval_strategy", "evaluation_strategy"),
        ("neat_packing", "greedy_zero_padding"),
        ("max_new_tokens", "generate_max_new_tokens"),
    ],
)
def test_a_suggestion_is_near_or_not_made(key, suggestion, sft_config, config_file):
    with pytest.raises(ConfigError, match=f"unknown key {key!r}") as caught:
        check_early(config_file({**sft_config, key: 1}))
    assert ("nearest" in str(caught.value)) == (suggestion is not None)
    assert suggestion is None or repr(suggestion) in str(caught.value)


PROGRAM = """
import sys
from paddle_flashmask.cli import main
try:
    main(["train", *sys.argv[1:]], standalone_mode=False)
except Exception as error:
    print(error)
print("imported" if any(name.partition(".")[0] in ("paddle", "paddlenlp") for name in sys.modules) else "not imported")
"""


# Every kind of error that the configuration shows by itself, with a change to an SFT configuration that has it.
EARLY = [
    ({"flashmask_backend": "torch"}, "flashmask_backend = 'torch' must be one of paddle_flashmask, paddle"),
    ({"learning_rate": -1}, "learning_rate = -1 must be above 0"),
    ({"learnig_rate": 1}, "unknown key 'learnig_rate'; the nearest known one is 'learning_rate'"),
    (
        {"save_sharded_model": True},
        "save_sharded_model = true is not supported in this release: use unified_checkpoint",
    ),
    ({"max_seq_len": 96}, "'max_seq_len' is a key of dpo, rm, kto; use 'max_length' here"),
    ({"desirable_weight": 1}, "'desirable_weight' is a key of kto alone"),
    ({"task": "ppo"}, "task = 'ppo' must be one of sft, dpo, rm, kto, policy"),
    ({"task": "dpo"}, "'dataset_name_or_path' is a key of sft, policy; use 'train_dataset_path' here"),
    ({"max_steps": 1.5}, "max_steps = 1.5 must be an integer"),
    ({"max_steps": True}, "max_steps = True must be an integer"),
    ({"max_length": "long"}, "max_length = 'long' must be an integer"),
    ({"save_total_limit": "two"}, "save_total_limit = 'two' must be an integer"),
    ({"learning_rate": "fast"}, "learning_rate = 'fast' must be a number"),
    ({"learning_rate": [1e-5, 1e-6]}, "learning_rate = [1e-05, 1e-06] must be one value"),
    ({"model_name_or_path": ["a", "b"]}, "model_name_or_path = ['a', 'b'] must be one value"),
    ({"flash_mask": "perhaps"}, "flash_mask = 'perhaps' must be true or false"),
    ({"flash_mask": 2}, "flash_mask = 2 must be true or false"),
    ({"use_expert_parallel": "maybe"}, "use_expert_parallel = 'maybe' must be true or false"),
    ({"evaluation_strategy": "sometimes"}, "evaluation_strategy = 'sometimes' must be one of no, steps, epoch"),
    ({"weight_quantize_algo": "nf4"}, "weight_quantize_algo = 'nf4' is not supported in this release"),
    (
        {"hidden_dropout_prob": 0.1},
        "hidden_dropout_prob = 0.1 is not supported in this release: no model here has this",
    ),
    ({"attention_probs_dropout_prob": "0.3"}, "attention_probs_dropout_prob = '0.3' is not supported in this release"),
    ({"prefix_tuning": True}, "prefix_tuning = True is not supported in this release"),
    ({"lr_scheduler_type": "exponential"}, "lr_scheduler_type = 'exponential' must be one of linear, cosine"),
    ({"attention_mask_type": "prefix_lm"}, "attention_mask_type = 'prefix_lm' must be one of causal_document"),
    ({"loss_average": "pairs"}, "loss_average = 'pairs' must be one of tokens, paddlenlp"),
    ({"optim": "sgd"}, "optim = 'sgd' must be one of adamw"),
    ({"recompute_granularity": "x"}, "recompute_granularity = 'x' must be one of full, full_attn, core_attn"),
    ({"recompute_granularity": ["full"]}, "recompute_granularity = ['full'] must be one of full, full_attn, core_attn"),
    ({"fp16_opt_level": "O3"}, "fp16_opt_level = 'O3' must be one of O0, O1, O2"),
    ({"ckpt_quant_stage": "int8"}, "ckpt_quant_stage = 'int8' must be one of O0, O1, O2"),
    ({"hybrid_parallel_topo_order": "x"}, "hybrid_parallel_topo_order = 'x' must be one of pp_first, sharding_first"),
    ({"device": "npu:0"}, "device = 'npu:0' must be 'cpu', 'gpu' or 'gpu:' with a number"),
    ({"report_to": "foo"}, "report_to = 'foo': 'foo' must be one of visualdl, autonlp, wandb, tensorboard, all, none"),
    ({"report_to": ["none", "visualdl"]}, "report_to = ['none', 'visualdl']: 'none' must be the only value"),
    ({"src_length": 96}, "src_length = 96 must be positive and below max_length = 96"),
    ({"pad_to_multiple_of": 0}, "pad_to_multiple_of = 0 must be at least 1"),
    ({"pad_to_multiple_of": 7, "pad_to_max_length": True}, "max_length = 96 is not a multiple of pad_to_multiple_of"),
    ({"bf16": False}, "fp16_opt_level = 'O2' needs bf16 or fp16"),
    ({"fp16": True}, "fp16 and bf16 are both true"),
    ({"do_train": False}, "neither do_train nor do_eval"),
    (
        {"load_best_model_at_end": True, "evaluation_strategy": "steps", "save_strategy": "epoch"},
        "load_best_model_at_end = true needs one value of evaluation_strategy and save_strategy",
    ),
    (
        {"load_best_model_at_end": True, "do_eval": True, "save_strategy": "steps", "eval_steps": 3, "save_steps": 4},
        "load_best_model_at_end = true needs save_steps = 4 to be a multiple of eval_steps = 3",
    ),
    ({"model_name_or_path": None}, "model_name_or_path is missing from the configuration"),
    ({"dataset_name_or_path": None}, "dataset_name_or_path is missing from the configuration"),
]


@pytest.mark.parametrize(("changes", "message"), EARLY)
def test_errors_need_no_import(changes, message, sft_config, config_file):
    with pytest.raises((ConfigError, UnsupportedConfigError)) as caught:
        check_early(config_file({**sft_config, **changes}))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("task", "key", "value", "message"),
    [
        ("dpo", "loss_type", "sigmoyd", "must be one of sigmoid, .*, orpo; the nearest one is 'sigmoid'"),
        ("rm", "loss_type", "sigmoid", "must be one of pairwise, listwise$"),
        ("kto", "loss_average", "tokens", "must be one of pairs, paddlenlp$"),
    ],
)
def test_choices_of_a_task_need_no_import(task, key, value, message, task_config, config_file):
    path = config_file({**task_config(task), "task": task, key: value})
    for check in (check_early, lambda path: TASKS[task].arguments(read_values(path))):
        with pytest.raises(ConfigError, match=f"^{key} = {value!r} {message}"):
            check(path)


@pytest.mark.parametrize(("changes", "message"), EARLY[:3] + EARLY[3:-2:4])
def test_errors_come_before_paddle_is_imported(changes, message, sft_config, config_file):
    path = config_file({**sft_config, **changes})
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(message), done.stdout + done.stderr
    assert done.stdout.endswith("\nnot imported\n")


def test_a_tool_that_is_not_installed_is_named(sft_config, config_file, monkeypatch):
    monkeypatch.setitem(PACKAGES, "wandb", "no_such_package")
    path = config_file({**sft_config, "report_to": ["wandb"]})
    for check in (check_early, lambda path: TASKS["sft"].arguments(read_values(path))):
        with pytest.raises(ConfigError, match="needs the package no_such_package: pip install no_such_package"):
            check(path)


@pytest.mark.parametrize("value", [True, "yes", "F", 0, "1"])
def test_what_the_parser_reads_is_a_switch(value, sft_config, config_file):
    path = config_file({**sft_config, "disable_tqdm": value})
    check_early(path)
    expected = str(value).lower() in ("true", "yes", "1")
    assert TASKS["sft"].arguments(read_values(path)).training.disable_tqdm is expected


def test_every_synonym_is_a_key():
    assert all(set(words) <= TYPES.keys() - UNSUPPORTED_KEYS for words in SYNONYMS.values())
