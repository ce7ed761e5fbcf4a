"""Rows of preference data files: PaddleNLP's JSON lines and those of Hugging Face data sets, checked one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chat import DataError, messages_of, split_system


@dataclass(frozen=True)
class PreferenceRow:
    """rounds: earlier (user, assistant) turns. answers: to `question`, best first; one for KTO, with `desirable`.
    system: stands before the first question, "" where there is none."""

    rounds: list[tuple[str, str]]
    question: str
    answers: list[str]
    place: str
    desirable: bool | None = None
    system: str = ""


class PreferenceLines:
    """The rows of a JSON-lines file, or of all `*.json` and `*.jsonl` files of a folder in the order of their names.

    task: "dpo" (two answers a row), "rm" (two or more) or "kto" (one answer and whether it is wanted). Blank lines are
    skipped. Iterating reads the files again. Rows are one of

    * PaddleNLP: `src` (a string, or a list: the last is the question), `tgt` (the answers to the earlier ones),
      `response` (a list) and `sort` (a number for each, the highest is the best; for KTO 1 or 0);
    * Hugging Face: `prompt` (a string or messages; or `messages`) with `chosen` and `rejected` (strings or messages),
      or for KTO with `completion` and `label`. Without a prompt, `chosen` and `rejected` are whole conversations that
      differ in their last message.

    Messages may begin with a system message.
    """

    def __init__(self, path: str, task: str):
        self.task = task
        found = Path(path)
        if found.is_file():
            self.files = [found]
        else:
            self.files = sorted(f for f in found.glob("*.json*") if f.suffix in (".json", ".jsonl"))
        if not self.files:
            raise DataError(f"no preference data: {path} is neither a file nor a folder with *.json or *.jsonl files")

    def __iter__(self) -> Iterator[PreferenceRow]:
        for path in self.files:
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield parse_preference_row(line, f"{path}:{number}", self.task)


def parse_preference_row(line: str, place: str, task: str) -> PreferenceRow:
    """Raises DataError, which begins with `place`, for a row that cannot be used."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected an object; got {type(row).__name__} (one object per line)")
    if "src" in row:
        return _paddlenlp_row(row, place, task)
    if task == "kto":
        return _hugging_face_kto_row(row, place)
    return _hugging_face_row(row, place)


def _paddlenlp_row(row: dict[str, Any], place: str, task: str) -> PreferenceRow:
    sources = _texts(row, "src", place)
    targets = _texts(row, "tgt", place) if row.get("tgt", []) != [] else []
    if targets == [""] and len(sources) == 1:  # PaddleNLP's files write an empty tgt as "" too
        targets = []
    if len(sources) != len(targets) + 1:
        raise DataError(
            f"{place}: 'src' must hold one text more than 'tgt' (the last is the question); "
            f"got {len(sources)} and {len(targets)}"
        )
    answers, sort = _texts(row, "response", place), _need(row, "sort", place)
    sort = sort if isinstance(sort, list) else [sort]
    if not all(isinstance(rank, (int, float)) for rank in sort):
        raise DataError(f"{place}: 'sort' must hold numbers; got {sort!r:.80}")
    if len(sort) != len(answers):
        raise DataError(f"{place}: {len(answers)} entries in 'response' and {len(sort)} in 'sort'")
    _check_count(len(answers), "'response'", place, task)
    rounds = list(zip(sources, targets, strict=False))
    if task == "kto":
        if sort[0] not in (0, 1):
            raise DataError(f"{place}: 'sort' must be [1] (wanted) or [0] (not wanted) for KTO; got {sort!r}")
        return _checked(PreferenceRow(rounds, sources[-1], answers, place, bool(sort[0])))
    if len(set(sort)) != len(sort):
        raise DataError(f"{place}: the numbers in 'sort' must differ, the highest is the best answer; got {sort!r}")
    order = sorted(range(len(sort)), key=lambda i: -sort[i])
    return _checked(PreferenceRow(rounds, sources[-1], [answers[i] for i in order], place))


def _hugging_face_row(row: dict[str, Any], place: str) -> PreferenceRow:
    chosen, rejected = (_need(row, key, place) for key in ("chosen", "rejected"))
    key = next((key for key in ("prompt", "messages") if key in row), None)
    if key is None:
        if not (isinstance(chosen, list) and isinstance(rejected, list)):
            raise DataError(f"{place}: no 'prompt', 'messages' or 'src'; the row has {_keys(row)}")
        if not chosen or chosen[:-1] != rejected[:-1]:
            raise DataError(
                f"{place}: without 'prompt', 'chosen' and 'rejected' must differ in their last message only"
            )
        system, rounds, question = _conversation(chosen[:-1], "chosen", place)
    else:
        system, rounds, question = _conversation(row[key], key, place)
    answers = [_answer(value, name, place) for name, value in (("chosen", chosen), ("rejected", rejected))]
    return _checked(PreferenceRow(rounds, question, answers, place, system=system))


def _hugging_face_kto_row(row: dict[str, Any], place: str) -> PreferenceRow:
    key = "prompt" if "prompt" in row else "messages"
    system, rounds, question = _conversation(_need(row, key, place), key, place)
    answer = _answer(_need(row, "completion", place), "completion", place)
    label = _need(row, "label", place)
    if label not in (True, False, 0, 1):
        raise DataError(f"{place}: 'label' must be true or false; got {label!r:.80}")
    return _checked(PreferenceRow(rounds, question, [answer], place, bool(label), system))


def _conversation(value: Any, key: str, place: str) -> tuple[str, list[tuple[str, str]], str]:
    """System text, earlier rounds and the question of a string or of messages that end with the user's."""
    if isinstance(value, str):
        return "", [], value
    system, messages = split_system(messages_of(value, key, place))
    roles = [role for role, _ in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise DataError(
            f"{place}: the messages before the answers must alternate user, assistant, ..., user; got {roles}"
        )
    texts = [text for _, text in messages]
    return system, list(zip(texts[0::2], texts[1::2], strict=False)), texts[-1]


def _answer(value: Any, key: str, place: str) -> str:
    """A string, one message, or the last of several, by the assistant."""
    if isinstance(value, str):
        return value
    messages = messages_of([value] if isinstance(value, dict) else value, key, place)
    if not messages or messages[-1][0] != "assistant":
        raise DataError(f"{place}: {key!r} must end with a message of the assistant")
    return messages[-1][1]


def _texts(row: dict[str, Any], key: str, place: str) -> list[str]:
    value = _need(row, key, place)
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{place}: {key!r} must be a string or a list of strings; got {value!r:.80}")
    return texts


def _check_count(count: int, key: str, place: str, task: str) -> None:
    if task == "dpo" and count != 2:
        raise DataError(f"{place}: {key} must hold two answers for DPO; got {count}")
    if task == "rm" and count < 2:
        raise DataError(f"{place}: {key} must hold two answers or more for a reward model; got {count}")
    if task == "kto" and count != 1:
        raise DataError(f"{place}: {key} must hold one answer for KTO; got {count}")


def _checked(row: PreferenceRow) -> PreferenceRow:
    if not all(answer.strip() for answer in row.answers):
        raise DataError(f"{row.place}: an answer is empty")
    return row


def _need(row: dict[str, Any], key: str, place: str) -> Any:
    if key not in row:
        raise DataError(f"{place}: no {key!r}; the row has {_keys(row)}")
    return row[key]


def _keys(row: dict[str, Any]) -> str:
    return ", ".join(map(repr, row)) or "no keys"
