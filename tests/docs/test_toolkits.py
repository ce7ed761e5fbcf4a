"""docs/toolkits.md: keys and commands of its column "here" exist, its conversions mean the same, its rows are read."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.repository import REPOSITORY

import paddle_flashmask
from paddle_flashmask.cli import SUBCOMMANDS
from paddle_flashmask.integrations import paddlenlp
from paddle_flashmask.integrations.paddlenlp.config.data_sets import check_data_sets
from paddle_flashmask.integrations.paddlenlp.config.keys import CHOICES_OF, TASKS, UNSUPPORTED_KEYS
from paddle_flashmask.integrations.paddlenlp.config.known import keys_of
from paddle_flashmask.integrations.paddlenlp.config.numbers import check_numbers
from paddle_flashmask.integrations.paddlenlp.config.value_types import check_choices, check_types
from paddle_flashmask.integrations.paddlenlp.config.values import check_early
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo, kto

TEXT = (REPOSITORY / "docs" / "toolkits.md").read_text()
TABLES = TEXT.split("\n## Rows\n")[0]  # the last column is "here"
TABLE_ROWS = [line.strip("| ").split(" | ") for line in TABLES.splitlines() if re.match(r"\| .+ \|$", line)]
FILES = (".json", ".jsonl", ".csv", ".yaml", "/")
LAUNCHER = "python -m paddle.distributed.launch"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}[^\n]*\n(.*?)```", TEXT, flags=re.S)


def spans() -> list[str]:
    """What the column "here" writes as code."""
    return [span for row in TABLE_ROWS for span in re.findall(r"`([^`]+)`", row[-1])]


def check_command(words: list[str]) -> None:
    assert words[1] in SUBCOMMANDS
    command = getattr(importlib.import_module(f"paddle_flashmask.cli.{words[1]}"), words[1])
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word in options or word[2:] in {key for task in TASKS for key in keys_of(task)}, word


def test_here_writes_keys_and_commands_that_exist() -> None:
    assert len(TABLE_ROWS) > 50
    for span in spans():
        if span.startswith("paddle-flashmask "):
            check_command(span.split())
        elif span == "train(config)":
            assert callable(paddlenlp.train)
        elif span.startswith("paddle_flashmask."):
            assert hasattr(paddle_flashmask, span.removeprefix("paddle_flashmask.").removesuffix("()"))
        elif span not in ("true", "false", "datasets", "prompt", "completion", LAUNCHER) and not span.endswith(FILES):
            values = yaml.safe_load(span)
            values = values if isinstance(values, dict) else {span: None}
            tasks = [task for task in TASKS if set(values) <= keys_of(task)]
            assert tasks, span
            assert not UNSUPPORTED_KEYS & set(values), span
            values = {key: value for key, value in values.items() if value is not None}
            check_types(values)
            check_numbers(values)
            check_data_sets(values)
            if not (set(values) & set.intersection(*(set(CHOICES_OF[task]) for task in tasks))):
                continue
            errors = []
            for task in tasks:
                try:
                    check_choices(values, CHOICES_OF[task])
                except ValueError as error:
                    errors.append(error)
            assert len(errors) < len(tasks), errors


SAME_NAMES = (
    "model_name_or_path", "output_dir", "logging_steps", "save_steps", "gradient_accumulation_steps", "learning_rate",
    "num_train_epochs", "lr_scheduler_type", "warmup_ratio", "bf16", "lora_rank", "beta", "eval_steps",
)  # fmt: skip


@pytest.mark.parametrize(
    ("place", "name", "others"),
    [
        (0, "sft", {"stage": "task", "cutoff_len": "max_length", "dataset": "dataset_name_or_path"}),
        (1, "dpo", {"eval_strategy": "evaluation_strategy", "gradient_checkpointing": "recompute"}),
    ],
)
def test_conversion(place: int, name: str, others: dict[str, str], tmp_path: Path) -> None:
    theirs = yaml.safe_load(blocks("yaml")[place])
    text = [block for block in blocks("json") if '"task"' in block][place]
    ours: dict[str, Any] = json.loads(text)
    assert ours["task"] == name
    (tmp_path / f"{name}.json").write_text(text)
    check_early(tmp_path / f"{name}.json")
    compared = {**{key: key for key in SAME_NAMES}, **others}
    assert {key: ours[compared[key]] for key in theirs if key in compared} == {
        key: value for key, value in theirs.items() if key in compared
    }


def read(rows: list[Any], reader: Any, folder: Path) -> list[Any]:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(reader(folder))


def test_rows_are_read(tmp_path: Path) -> None:
    names: dict = {}
    for code in blocks("python"):
        exec(compile(code, "docs/toolkits.md", "exec"), names)
    shown = [json.loads(block) for block in blocks("json") if '"task"' not in block]
    question, answer = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
    other = {"role": "assistant", "content": "5"}
    instructions = [row for row in shown if "chosen" not in row] + [
        {"src": ["2 + 2?"], "tgt": ["4"], "label": [1]},
        {"messages": [question, answer, question, answer], "label": [0, 1]},
        {"messages": [question, {**answer, "weight": 0}, question, answer]},
        {"prompt": [question, answer, question], "completion": [answer]},
        {"conversations": [{"from": "human", "value": "2?"}, {"from": "gpt", "value": "2"}], "system": "Be brief."},
    ]
    found = read(instructions, lambda folder: SFTLines(str(folder), "train"), tmp_path)
    assert [len(row.messages) for row in found] == [2, 2, 4, 4, 4, 3]
    assert [row.learned for row in found] == [None, None, *[(False, True)] * 3, None]
    pairs = [row for row in shown if "chosen" in row] + [
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"chosen": [question, answer], "rejected": [question, other]},
    ]
    pairs += [
        {"src": ["2 + 2?"], "tgt": [], "response": [["4"], ["5"]], "sort": [1, 0]},
        {"system": "Be brief.", "question": "2 + 2?", "chosen": "4", "rejected": "5"},
    ]
    renamed = {"messages": [question], "chosen_response": [answer], "rejected_response": [other]}
    pairs.append(names["converted"](renamed))
    found = read(pairs, lambda folder: PreferenceLines(str(folder), dpo.FORM), tmp_path)
    assert [len(row.answers) for row in found] == [2] * 6
    with pytest.raises(DataError):  # the page says that these need a change
        read([renamed], lambda folder: PreferenceLines(str(folder), dpo.FORM), tmp_path)
    marked = [{"prompt": "2 + 2?", "completion": "4", "label": True}]
    assert len(read(marked, lambda folder: PreferenceLines(str(folder), kto.FORM), tmp_path)) == 1
