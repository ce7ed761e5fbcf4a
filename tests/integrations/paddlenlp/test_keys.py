"""Keys and numbers of configurations: all of them known, settled or refused by name, before Paddle is imported."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_flashmask.integrations.paddlenlp.config.known import OWN_KEYS, PADDLENLP_KEYS
from paddle_flashmask.integrations.paddlenlp.config.switches import GPU_ONLY, LORA_ONLY, REFUSED, WITHOUT_EFFECT
from paddle_flashmask.integrations.paddlenlp.config.values import check_early, read_values
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS

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


def test_the_list_of_keys_is_that_of_the_tasks():
    names = {field.name for task in TASKS.values() for field in fields(task)}
    assert names | {"task", "flashmask_backend"} == OWN_KEYS | PADDLENLP_KEYS


SWITCHES = [
    (task, field.name) for task in TASKS.values() for field in fields(task) if "bool" in str(field.type).lower()
]


@pytest.mark.parametrize(("task", "key"), SWITCHES, ids=lambda value: getattr(value, "key", value))
def test_every_switch_works_or_is_named(task, key, task_config, config_file):
    base = {**task_config(task.key), "load_best_model_at_end": False, "bf16": False, "fp16_opt_level": "O1"}
    if key == "do_eval" and task.key != "sft":
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
        ("seed", -1, "must be at least 0"),
        ("max_steps", 0, "must be at least 1, or -1"),
        ("warmup_ratio", 1.5, "must be at least 0 and at most 1"),
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": -1}, "learning_rate = -1 must be above 0"),
        ({"learnig_rate": 1}, "unknown key 'learnig_rate'; the nearest known one is 'learning_rate'"),
        ({"use_async_save": True}, "use_async_save = true is not supported in this release"),
    ],
)
def test_errors_come_before_paddle_is_imported(changes, message, sft_config, config_file):
    path = config_file({**sft_config, **changes})
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(message), done.stdout + done.stderr
    assert done.stdout.endswith("\nnot imported\n")
