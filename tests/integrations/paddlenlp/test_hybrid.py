"""A model and an optimizer that are divided over processes train like those of one process.

Two processes over Gloo by default. `--processes 4`, a part of `make train-all`, divides in two ways at once.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed
import pytest
from forked_ranks import train_together
from paddlenlp.transformers import AutoConfig, AutoModelForCausalLM, MistralConfig
from rollouts import rollouts, write
from run_folders import all_weights_in
from sentences import write_rows
from talks import rounds_of_talks
from tiny import TINY

from paddle_flashmask.integrations.paddlenlp.config import parallel
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.reward_model import reward_model_class
from paddle_flashmask.integrations.paddlenlp.train import train

TENSOR = {"tensor_parallel_degree": 2}
CONTEXT = {"context_parallel_degree": 2}
SEQUENCE = {**TENSOR, "sequence_parallel": True}
STAGE1, STAGE2, STAGE3 = ({"sharding": stage} for stage in parallel.STAGES)
# Adam's steps do not depend on the scale of the gradients unless its epsilon is large.
COMMON = {
    "max_steps": 5,
    "learning_rate": 0.2,
    "adam_epsilon": 0.1,
    "max_grad_norm": 0.5,
    "lazy": False,
    "load_best_model_at_end": False,
    "continue_training": True,
    "report_to": "none",
    "tensor_parallel_degree": 1,
    "sharding": "",
}
LORA = {"lora": True, "lora_rank": 4}
TREES = {"share_prefixes": True}
SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 5}
RECOMPUTED_PREFIXES = {"recompute": True, "attention_mask_type": "prefix_lm_document"}
EVALUATED = {"do_eval": True, "evaluation_strategy": "steps", "eval_steps": 5}


@dataclass(frozen=True)
class Case:
    """resumed: keys that change in a run that continues the checkpoint of step 2, or None without such a run.

    accumulated: batches of a process in a step.
    """

    task: str
    division: dict
    options: dict = field(default_factory=dict)
    resumed: dict | None = None
    accumulated: int = 2


IN_TWO = {
    "context": [
        Case(
            "sft", CONTEXT, {**SAVED, **EVALUATED, "recompute": True, "attention_mask_type": "prefix_lm_document"}, {}
        ),
        Case("sft", CONTEXT, {**LORA, **SAVED, **EVALUATED, "unified_checkpoint": False}, {}),
        Case("dpo", CONTEXT, EVALUATED),
        Case("dpo", CONTEXT, {**LORA, "share_prefixes": True}),
        Case("rm", CONTEXT, EVALUATED),
        Case("kto", CONTEXT, EVALUATED),
        Case("policy", CONTEXT, {"beta": 0.1}),
        Case("sft", {"sep_parallel_degree": 2}, {"share_prefixes": True, "model": "qwen2"}),
    ],
    "tensor": [
        Case("sft", TENSOR, {**SAVED, **EVALUATED}, {}),
        Case("rm", TENSOR, {**SAVED, "unified_checkpoint": False}, {}),
        Case("dpo", TENSOR, TREES),
        Case("sft", TENSOR, {**LORA, **SAVED}, SEQUENCE),
        Case("dpo", SEQUENCE, LORA),
        Case("rm", SEQUENCE, TREES),
        Case("policy", SEQUENCE, TREES),
    ],
    "sharding": [
        Case("sft", STAGE1, {**SAVED, **TREES}, STAGE2, accumulated=1),
        Case("dpo", STAGE1, LORA),
        Case("sft", STAGE2, {**LORA, **SAVED}, {}),
        Case("dpo", STAGE3, TREES, accumulated=1),
        Case("sft", STAGE3, {**SAVED, **EVALUATED}, {}),
        Case("rm", STAGE3, LORA),
        Case("kto", STAGE2, TREES, accumulated=1),
    ],
}
HALF = {"sharding_parallel_degree": 2}
IN_FOUR = {
    "context x data": [
        Case("sft", CONTEXT, {**SAVED, **EVALUATED}, {}),
        Case("kto", CONTEXT, EVALUATED),
        Case("dpo", CONTEXT, LORA),
    ],
    "context x tensor": [
        Case("sft", {**TENSOR, **CONTEXT}, {**SAVED, **EVALUATED}, {}),
        Case("rm", {**TENSOR, **CONTEXT}),
        Case("dpo", {**TENSOR, **CONTEXT}, LORA),
    ],
    "context x sharding": [
        Case("sft", {**STAGE1, **CONTEXT}, {**SAVED, **EVALUATED}, {}),
        Case("dpo", {**STAGE1, **CONTEXT}, LORA),
    ],
    "tensor x data": [
        Case("sft", TENSOR, {**SAVED, **EVALUATED}, {}),
        Case("kto", SEQUENCE),
        Case("rm", SEQUENCE, LORA),
    ],
    "tensor x sharding": [
        Case("sft", {**TENSOR, **STAGE1}, SAVED, {}),
        Case("dpo", {**SEQUENCE, **STAGE1}, LORA),
        Case("rm", {**TENSOR, **STAGE2}),
        Case("policy", {**TENSOR, **STAGE1}),
    ],
    "sharding x data": [
        Case("sft", {**STAGE1, **HALF}, SAVED, {}),
        Case("dpo", {**STAGE2, **HALF}),
        Case("sft", {**STAGE3, **HALF}, LORA),
        Case("kto", {**STAGE3, **HALF}, accumulated=1),
    ],
}


@pytest.fixture(scope="module")
def weights(tokenizer, model_folders, data_folder, tmp_path_factory) -> dict[str, Path]:
    """Folders with the weights of language models and of a reward model, and folders for an adapter of each."""
    names = ("language", "reward", "qwen2", "adapter-sft", "adapter-rm")
    folders = {name: tmp_path_factory.mktemp(name) for name in names}
    paddle.seed(3)
    for family, folder in (("qwen2", "qwen2"), ("llama", "language")):
        config = AutoConfig.from_pretrained(str(model_folders[family]))
        config.initializer_range, config.vocab_size = 0.1, -(-len(tokenizer) // 4) * 4
        AutoModelForCausalLM.from_config(config, dtype="float32").save_pretrained(str(folders[folder]))
    reward_model_class(config)(config).save_pretrained(str(folders["reward"]))
    folders["mistral"] = tmp_path_factory.mktemp("mistral")
    MistralConfig(vocab_size=8, architectures=["MistralForCausalLM"], **TINY).save_pretrained(str(folders["mistral"]))
    for folder in folders.values():
        tokenizer.save_pretrained(str(folder))
    return folders


@pytest.fixture
def place(task_config, sft_config, weights, tmp_path):
    """A function that writes a configuration: its name, task, and changes; beside the file is its output_dir."""

    def write(name: str, task: str, **changes) -> Path:
        model = weights[changes.pop("model", "reward" if task == "rm" else "language")]
        data = {"train": "train_dataset_path", "dev": "dev_dataset_path"}
        config = {**task_config(task), **COMMON, "model_name_or_path": str(model)}
        if changes.get("share_prefixes"):
            config |= _shared_data(tmp_path / f"data-{task}", task)
        if changes.get("do_eval") and data["train"] in config:
            config[data["dev"]] = config[data["train"]]
        folder = tmp_path / name
        folder.mkdir()
        if changes.get("lora"):
            kind = "rm" if task == "rm" else "sft"
            adapter = {**(config if task == "rm" else sft_config), "model_name_or_path": str(model)}
            changes["lora_path"] = str(_adapter(adapter, kind, weights[f"adapter-{kind}"]))
        (folder / "config.json").write_text(json.dumps({**config, "output_dir": str(folder / "out"), **changes}))
        return folder / "config.json"

    return write


def _shared_data(folder: Path, task: str) -> dict:
    """The keys of data whose rows share prefixes, in at least two packs."""
    folder.mkdir(exist_ok=True)
    if task in ("sft", "policy"):
        rows = rollouts(12)
        if task == "sft":
            rows = [{"prompt": r["prompt"], "answers": r["answers"], "weights": r["advantages"]} for r in rows]
        write(folder, rows)
        return {"dataset_name_or_path": str(folder), "src_length": 60, "max_length": 120}
    write_rows(folder / "talks.jsonl", rounds_of_talks(task, talks=4, rounds=3))
    return {"train_dataset_path": str(folder / "talks.jsonl"), "max_seq_len": 130}


def _adapter(config: dict, task: str, folder: Path) -> Path:
    """The adapter of a short run, whose parts are not zero. Random ones differ with the division."""
    if not (folder / "lora_config.json").exists():
        options = {**COMMON, **LORA, "max_steps": 2, "unified_checkpoint": False}
        path = folder / "config.train.json"
        path.write_text(json.dumps({**config, **options, "task": task, "output_dir": str(folder)}))
        train(path, write=lambda line: None)
    return folder


def summary(path: Path) -> dict:
    return json.loads((path.parent / "out" / "training_summary.json").read_text())


def compare(ours: dict, theirs: dict) -> None:
    """Figures of the same steps; a difference of log-probabilities or scores is as exact as these are."""
    for name in ("metrics", "evaluations"):
        expected = {entry["step"]: entry for entry in theirs[name]}
        for entry in ours[name]:
            other = expected[entry["step"]]
            scale = abs(other.get("logps/chosen", other.get("eval_logps/chosen", 0)))
            for key in other.keys() & entry.keys():
                if key.split("/")[0].removeprefix("eval_") in ("loss", "accuracy", "margin", "rewards", "logps", "kl"):
                    slack = 1e-6 if key.endswith("margin") else 2e-6 * scale
                    assert entry[key] == pytest.approx(other[key], rel=1e-5, abs=slack), (entry["step"], key)


def run_cases(cases: list[Case], processes: int, place, tmp_path: Path) -> None:
    paths, expected = [], []
    for number, case in enumerate(cases):
        degrees = [case.division.get(f"{axis}_parallel_degree", 1) for axis in ("tensor", "context", "sep")]
        batches = processes // math.prod(degrees)
        alone = {**case.options, "gradient_accumulation_steps": case.accumulated * batches, "pad_to_max_length": False}
        one = place(f"{number}-one", case.task, **{**alone, "save_strategy": "no"})
        train(one, write=lambda line: None)
        divided = {**case.options, **case.division, "gradient_accumulation_steps": case.accumulated}
        paths.append(place(f"{number}", case.task, **divided))
        expected.append(one)
        if case.resumed is not None:
            checkpoint = str(paths[-1].parent / "out" / "checkpoint-2")
            changes = {**divided, **case.resumed, "resume_from_checkpoint": checkpoint}
            paths.append(place(f"{number}-resumed", case.task, **changes))
            expected.append(one)
    train_together(paths, processes, tmp_path)
    for path, one in zip(paths, expected, strict=True):
        compare(summary(path), summary(one))
        if "resumed" in path.parent.name:
            assert [step for step, _ in summary(path)["losses"]] == [3, 4, 5]
        else:
            assert summary(path)["tokens"] == summary(one)["tokens"]
        found, wanted = (all_weights_in(config.parent / "out") for config in (path, one))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=key)


def pytest_generate_tests(metafunc):
    if "axes" in metafunc.fixturenames:
        four = metafunc.config.getoption("--processes", default=2) >= 4
        metafunc.parametrize("axes", [*IN_TWO, *(IN_FOUR if four else ())])


def test_divided_runs_are_those_of_one_process(axes, place, tmp_path):
    if axes in IN_TWO:
        run_cases(IN_TWO[axes], 2, place, tmp_path)
    else:
        run_cases(IN_FOUR[axes], 4, place, tmp_path)


def test_a_checkpoint_of_one_process_is_continued_in_two(place, tmp_path):
    one = place("one", "sft", **SAVED, gradient_accumulation_steps=2)
    train(one, write=lambda line: None)
    checkpoint = str(one.parent / "out" / "checkpoint-2")
    two = place("two", "sft", **TENSOR, gradient_accumulation_steps=2, resume_from_checkpoint=checkpoint)
    train_together([two], 2, tmp_path)
    compare(summary(two), summary(one))
    assert [step for step, _ in summary(two)["losses"]] == [3, 4, 5]


def test_no_document_reaches_another_in_two_processes(place, tmp_path):
    """`verify`: not a bit of an output changes with the tokens of another document."""
    paths = [place(task, task, **CONTEXT) for task in ("sft", "dpo", "rm")]
    train_together(paths, 2, tmp_path, verified=True)
    for rank in range(2):
        log = (tmp_path / f"rank{rank}.log").read_text()
        found = re.findall(r"other documents do not change +(\d+) +(\d+)  ok", log)
        assert len(found) == len(paths) and "FAILED" not in log, log[-4000:]
        assert all(int(tested) > 100 and wrong == "0" for tested, wrong in found)


@pytest.mark.parametrize(
    ("division", "error", "message"),
    [
        (
            {"pipeline_parallel_degree": 2},
            UnsupportedConfigError,
            "pipeline_parallel_degree = 2 on 4 .* last stage",
        ),
        ({**CONTEXT, "flash_mask": False}, UnsupportedConfigError, "context_parallel_degree = 2 needs flash_mask"),
        ({**CONTEXT, "sep_parallel_degree": 2}, ConfigError, "mean the same: give one"),
        ({**CONTEXT, **STAGE2}, UnsupportedConfigError, "context_parallel_degree = 2 with sharding = 'stage2'"),
        ({**SEQUENCE, "sep_parallel_degree": 2}, UnsupportedConfigError, "sep_parallel_degree = 2 with sequence_par"),
        ({**CONTEXT, "use_fused_rope": True}, UnsupportedConfigError, "with use_fused_rope = True .* positions"),
        ({**CONTEXT, "loss_average": "paddlenlp"}, UnsupportedConfigError, "= 2 with loss_average = 'paddlenlp'"),
        ({"context_parallel_degree": 3}, ConfigError, "4 processes cannot .* times the context parallel degree, 3"),
        ({"sharding": "stage2 offload"}, UnsupportedConfigError, "sharding = 'stage2 offload' on 4 .* stage1, stage2"),
        ({"sharding_parallel_degree": 2}, ConfigError, "sharding_parallel_degree = 2 needs sharding"),
        ({**TENSOR, **STAGE3}, UnsupportedConfigError, "'stage3' with tensor_parallel_degree = 2"),
        ({**STAGE3, "load_best_model_at_end": True}, UnsupportedConfigError, "load_best_model_at_end = true with .*3"),
        ({"tensor_parallel_degree": 3}, ConfigError, "4 processes cannot be divided by tensor_parallel_degree = 3"),
        ({**TENSOR, **STAGE1, "sharding_parallel_degree": 4}, ConfigError, "= 2 times sharding_parallel_degree = 4"),
    ],
)
def test_what_cannot_be_divided_is_refused(place, monkeypatch, division, error, message):
    path = place("refused", "sft", **division)
    monkeypatch.setattr(paddle.distributed, "get_world_size", lambda: 4)
    with pytest.raises(error, match=message):
        train(path, write=lambda line: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 97, **SEQUENCE}, "max_length = 97 is not a multiple of tensor_parallel_degree = 2"),
        ({"gradient_accumulation_steps": 100, **SEQUENCE}, "= 100 is above the number of batches .* sequence_parallel"),
        ({"tensor_parallel_degree": 4}, "tensor_parallel_degree = 4 does not divide num_key_value_heads = 2"),
        ({**CONTEXT, "model": "mistral"}, "not supported in this release for MistralForCausalLM, only for Llama and Q"),
    ],
)
def test_what_does_not_fit_the_division_is_refused(place, tmp_path, changes, message):
    path = place("refused", "sft", **changes)
    with pytest.raises(AssertionError, match=message):
        train_together([path], changes.get("tensor_parallel_degree", 2), tmp_path)


def test_parts_of_a_checkpoint_fit_their_division_only(place, tmp_path):
    """Without unified_checkpoint, or in one process, which would read the first of several files."""
    first = place("first", "sft", **SAVED, **STAGE3, gradient_accumulation_steps=2)
    checkpoint = str(first.parent / "out" / "checkpoint-2")
    other = place("other", "sft", **STAGE2, gradient_accumulation_steps=2, resume_from_checkpoint=checkpoint)
    with pytest.raises(AssertionError, match=r"checkpoint-2 is divided by .*'stage3'; now .*'stage2'"):
        train_together([first, other], 2, tmp_path)
    for rank in range(2):  # the first process finds it, and every process raises it
        assert "ConfigError: " in (tmp_path / f"rank{rank}.log").read_text(errors="replace")


def test_two_divisions_in_one_process_are_refused(place, tmp_path):
    paths = [place(name, "sft", **division) for name, division in (("one", TENSOR), ("two", STAGE1))]
    with pytest.raises(AssertionError, match="an earlier run in this process had 2, 1, 1, which fleet keeps"):
        train_together(paths, 2, tmp_path)
