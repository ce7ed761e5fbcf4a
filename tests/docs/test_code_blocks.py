"""Every code block of README.md, CONTRIBUTING.md and docs is run, or checked as far as it can be without running it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from shell_commands import check_shell
from support.markdown import DOCS, PAGES, CodeBlock, code_blocks, run_page
from support.repository import REPOSITORY

import paddle_flashmask
from paddle_flashmask.integrations.paddlenlp.config.keys import TYPES
from paddle_flashmask.integrations.paddlenlp.config.values import check_early
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines
from paddle_flashmask.integrations.paddlenlp.tasks import dpo, kto

# Pages whose Python needs PaddleNLP, and the test that runs it.
WITH_PADDLENLP = (
    "models.md",
    "training/checks.md",
    "training/rm.md",
    "training/script.md",
    "training/what_is_learned.md",
)
TEST_WITH_PADDLENLP = REPOSITORY / "tests" / "integrations" / "paddlenlp" / "test_training_pages.py"
# Titles of blocks with another library's code or configuration, which is parsed only.
OTHER_LIBRARIES = {"ERNIEKit", "LLaMA-Factory", "PaddleFormers", "TRL"}
CHAT_TEMPLATE_KEYS = {"system", "conversation", "query"}

BLOCKS = {block.place: block for page in PAGES for block in code_blocks(page)}


def blocks(*languages: str) -> Any:
    chosen = {place: block for place, block in BLOCKS.items() if block.language in languages}
    return pytest.mark.parametrize("block", chosen.values(), ids=chosen)


def rows_of(*lengths: int) -> dict[str, Any]:
    """Query, key and value of one sequence."""
    return {name: paddle.rand([1, sum(lengths), 1, 8]) for name in ("query", "key", "value")}


def paddleformers_names() -> dict[str, Any]:
    """What a training script with PaddleFormers has at hand."""
    return {
        "config": SimpleNamespace(),
        "rows": [{"prompt": [1, 2], "chosen": [3, 0], "rejected": [4, 0]}],
        "tokenizer": SimpleNamespace(pad_token_id=0),
        "DPOTrainer": lambda *_, **arguments: arguments,
    }


# What a page leaves to the reader.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/many_devices.md": lambda: rows_of(9000, 3000, 4384),
    "docs/paddleformers.md": paddleformers_names,
}


def check_readme(names: dict[str, Any]) -> None:
    assert names["out"].shape == [1, 512, 8, 64]
    assert names["query"].grad is not None


def check_operator(names: dict[str, Any]) -> None:
    printed = inspect.signature(names["flashmask_attention"]).parameters.values()
    actual = inspect.signature(paddle_flashmask.flashmask_attention).parameters.values()
    assert [(p.name, p.kind, p.default) for p in printed] == [(p.name, p.kind, p.default) for p in actual]


def check_prefix_trees(names: dict[str, Any]) -> None:
    """The batch has the keys of the page's table."""
    text = (DOCS / "prefix_trees.md").read_text()
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text, flags=re.M)))) == set(names["batch"])
    assert names["batch"]["input_ids"].shape == (1, 7)
    assert (names["packed"].report.tokens, names["packed"].report.sequence_tokens) == (7, 12)
    assert names["loss"].shape == []


def check_paddleformers(names: dict[str, Any]) -> None:
    batch = names["trainer"]["data_collator"]([names["packs"][0]])
    assert np.asarray(batch["input_ids"]).shape == (1, 4096)


# What holds after the code of a page.
EXPECTED: dict[str, Callable[[dict[str, Any]], None]] = {
    "README.md": check_readme,
    "docs/operator.md": check_operator,
    "docs/paddleformers.md": check_paddleformers,
    "docs/prefix_trees.md": check_prefix_trees,
}

PYTHON_PAGES = {
    str(block.page.relative_to(REPOSITORY)): block.page
    for block in BLOCKS.values()
    if block.language == "python" and not block.title and block.page not in {DOCS / name for name in WITH_PADDLENLP}
}


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = GIVEN.get(page, dict)()
    names = run_page(PYTHON_PAGES[page], {"__name__": "page", **given})
    EXPECTED.get(page, lambda names: None)(names)


def test_the_rest_runs_with_paddlenlp() -> None:
    text = TEST_WITH_PADDLENLP.read_text()
    assert [name for name in WITH_PADDLENLP if f'run("{name}"' not in text] == []


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_the_language_is_checked(block: CodeBlock) -> None:
    """text is output, and c is compiled by the test of its page."""
    assert block.language in {"bash", "c", "json", "python", "text", "yaml"}
    if block.title:
        assert block.title in OTHER_LIBRARIES
        assert block.language in {"python", "yaml"}


@blocks("python")
def test_python_compiles(block: CodeBlock) -> None:
    compile(block.text, block.place, "exec")


@blocks("bash")
def test_commands_exist(block: CodeBlock) -> None:
    check_shell(block.text)


@blocks("json", "yaml")
def test_values_are_accepted(block: CodeBlock, tmp_path: Path) -> None:
    for value in parsed(block):
        if block.title:
            assert isinstance(value, dict) and value
        elif "task" in value:
            config = tmp_path / "config.json"
            config.write_text(json.dumps(value))
            check_early(config)
        elif set(value) <= set(TYPES):
            pass  # a part of a configuration
        elif set(value) == CHAT_TEMPLATE_KEYS:
            assert all(isinstance(text, str) for text in value["conversation"])
        else:
            assert list(read_row(value, tmp_path))


def parsed(block: CodeBlock) -> list[dict[str, Any]]:
    """The object of a block, or the object of each of its lines."""
    if block.language == "yaml":
        return [yaml.safe_load(block.text)]
    try:
        return [json.loads(block.text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in block.text.splitlines()]


def read_row(row: dict[str, Any], folder: Path) -> Any:
    """Read a data row as the task for which it has keys."""
    file = folder / "train.jsonl"
    file.write_text(json.dumps(row) + "\n")
    if "advantages" in row:
        return RolloutLines(str(folder), "train")
    if {"label", "kto_tag"} & set(row):
        return PreferenceLines(str(file), kto.FORM)
    if {"response", "chosen"} & set(row):
        return PreferenceLines(str(file), dpo.FORM)
    return SFTLines(str(folder), "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paddle-flashmask trian config.json", "unknown subcommand"),
        ("paddle-flashmask inspect config.json --pages 2", "unknown key"),
        ("paddle-flashmask train config.json --learning_rat 1", "unknown key"),
        ("paddle-flashmask train examples/sft/missing.json", "missing.json"),
        ("paddle-flashmask mask causal_document --docs 3,4 --window 3", "does not take"),
        ("OMP_NUM_THREADS=2 make tests  # all", "make knows no 'tests'"),
        ("make test VENVS=1", "make knows no 'VENVS'"),
        ("python -m benchmarks.cpu.runs", "benchmarks.cpu.runs"),
        ("python examples/demos.py", "examples/demos.py"),
        ('pip install ".[paddlenlps]"', "paddlenlps"),
        ("cat file | git-lfs pull", "unknown program 'cat'"),
        ("python -m paddle.distributed.launch $(command -v paddle-flashmask) trian x.json", "unknown subcommand"),
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str, message: str) -> None:
    with pytest.raises((AssertionError, ModuleNotFoundError), match=re.escape(message)):
        check_shell(text)
