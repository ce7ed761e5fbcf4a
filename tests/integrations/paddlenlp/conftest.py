"""A tiny tokenizer, tiny models and generated data, made once per test session."""

from __future__ import annotations

import copy
import importlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
from paddlenlp.transformers import LlamaConfig, LlamaTokenizer, Qwen2Config
from paddlenlp.utils.log import logger
from sentences import sentence, write_rows
from tiny import TINY

from paddle_flashmask.integrations.paddlenlp.run import TrainingResult
from paddle_flashmask.integrations.paddlenlp.train import train


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--killed-runs", type=int, default=4, help="runs that test_runs_killed.py kills")
    parser.addoption("--processes", type=int, default=2, help="the most processes of a run in test_hybrid.py")


@pytest.fixture(scope="session", autouse=True)
def quiet_paddlenlp():
    logger.set_level("ERROR")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """train.json with 60 rows and dev.json with 12."""
    rng = random.Random(5)
    rows = [{"src": sentence(rng, 3, 18), "tgt": sentence(rng, 2, 25)} for _ in range(72)]
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "train.json", rows[:60])
    write_rows(folder / "dev.json", rows[60:])
    return folder


@pytest.fixture(scope="session")
def tokenizer(data_folder, tmp_path_factory) -> LlamaTokenizer:
    texts = [json.loads(line) for line in (data_folder / "train.json").read_text().splitlines()]
    prefix = tmp_path_factory.mktemp("sentencepiece") / "pieces"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([row[key] for row in texts for key in ("src", "tgt")]),
        model_prefix=str(prefix),
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        minloglevel=2,
    )
    return LlamaTokenizer(vocab_file=f"{prefix}.model")


@pytest.fixture
def templated(tokenizer) -> Callable[[str | dict], LlamaTokenizer]:
    """A function from a chat template to the tokenizer with it."""

    def make(template: str | dict) -> LlamaTokenizer:
        copied = copy.copy(tokenizer)
        copied.init_chat_template(template)
        return copied

    return make


@pytest.fixture(scope="session")
def model_folders(tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Folders with a model configuration and the tokenizer, no weights: {"llama": ..., "qwen2": ...}."""
    folders = {}
    for name, config_class, architecture in (
        ("llama", LlamaConfig, "LlamaForCausalLM"),
        ("qwen2", Qwen2Config, "Qwen2ForCausalLM"),
    ):
        folder = tmp_path_factory.mktemp(name)
        tokenizer.save_pretrained(str(folder))
        config_class(vocab_size=len(tokenizer), architectures=[architecture], **TINY).save_pretrained(str(folder))
        folders[name] = folder
    return folders


@pytest.fixture
def sft_config(model_folders, data_folder, tmp_path) -> dict:
    """The keys of PaddleNLP's published llm/config/llama/flashmask/sft.json, with small values and local data."""
    return {
        "model_name_or_path": str(model_folders["llama"]),
        "dataset_name_or_path": str(data_folder),
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "per_device_eval_batch_size": 1,
        "eval_accumulation_steps": 16,
        "max_steps": 3,
        "learning_rate": 2e-03,
        "warmup_ratio": 0.03,
        "logging_steps": 1,
        "evaluation_strategy": "no",
        "save_strategy": "no",
        "src_length": 60,
        "max_length": 96,
        "bf16": True,
        "fp16_opt_level": "O2",
        "do_train": True,
        "do_eval": False,
        "disable_tqdm": True,
        "load_best_model_at_end": True,
        "eval_with_do_generation": False,
        "metric_for_best_model": "accuracy",
        "recompute": False,
        "save_total_limit": 1,
        "tensor_parallel_degree": 2,
        "pipeline_parallel_degree": 1,
        "pipeline_parallel_config": "disable_p2p_cache_shape",
        "sharding": "stage2",
        "zero_padding": True,
        "unified_checkpoint": True,
        "tensor_parallel_output": True,
        "use_flash_attention": True,
        "greedy_zero_padding": True,
        "lazy": True,
        "flash_mask": True,
        "continue_training": False,
    }


@pytest.fixture
def train_anew(tmp_path):
    """A function that trains from a changed configuration, in a file `<task>.json`, and removes its output_dir."""

    def run(task: str, config: dict, /, *overrides: str, **changes) -> TrainingResult:
        path = tmp_path / f"{task}.json"
        path.write_text(json.dumps({**config, **changes}))
        result = train(path, overrides, write=lambda line: None)
        shutil.rmtree(config["output_dir"], ignore_errors=True)
        return result

    return run


@pytest.fixture(scope="session")
def preference_file(data_folder, tmp_path_factory) -> Path:
    """40 rows in PaddleNLP's form with 1-3 rounds and two answers, the better one first or second."""
    rng = random.Random(11)
    rows = []
    for i in range(40):
        rounds = rng.randint(0, 2)
        rows.append(
            {
                "src": [sentence(rng, 2, 6) for _ in range(rounds + 1)],
                "tgt": [sentence(rng, 1, 4) for _ in range(rounds)],
                "response": [sentence(rng, 1, 9), sentence(rng, 1, 9)],
                "sort": [1, 0] if i % 3 else [0, 1],
            }
        )
    path = tmp_path_factory.mktemp("preferences") / "train.jsonl"
    write_rows(path, rows)
    return path


@pytest.fixture
def dpo_config(model_folders, preference_file, tmp_path) -> dict:
    """The keys of PaddleNLP's published llm/config/llama/flashmask/dpo.json, with small values and local data."""
    return {
        "model_name_or_path": str(model_folders["llama"]),
        "train_dataset_path": str(preference_file),
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "per_device_eval_batch_size": 1,
        "num_train_epochs": 1,
        "max_steps": 5,
        "learning_rate": 2e-03,
        "warmup_ratio": 0.1,
        "logging_steps": 1,
        "evaluation_strategy": "no",
        "save_strategy": "no",
        "eval_steps": 100,
        "save_steps": 500,
        "max_seq_len": 128,
        "max_prompt_len": 60,
        "bf16": True,
        "fp16_opt_level": "O2",
        "do_train": True,
        "do_eval": False,
        "disable_tqdm": True,
        "load_best_model_at_end": True,
        "tensor_parallel_degree": 4,
        "sharding": "stage2",
        "use_flash_attention": True,
        "recompute": False,
        "recompute_granularity": "full",
        "unified_checkpoint": True,
        "autotuner_benchmark": False,
        "greedy_zero_padding": True,
        "flash_mask": True,
        "lazy": True,
        "continue_training": False,
    }


@pytest.fixture
def task_config(request, tmp_path_factory) -> Callable[[str], dict]:
    """A function from a task's key to a small configuration, which `small_config` of the task's test module makes."""

    def make(key: str) -> dict:
        module = importlib.import_module(f"test_train_{key}")
        return {**module.small_config(request, tmp_path_factory.mktemp(key)), "task": key}

    return make
