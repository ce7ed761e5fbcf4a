"""Preference data: questions with answers, in PaddleNLP's JSON lines or as Hugging Face data sets have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from .chat import messages_of, split_system
from .lines import keys_of, need, read_objects, texts_of

TokenRow = dict[str, Any]


@dataclass(frozen=True)
class PreferenceRow:
    """A question with its answers.

    rounds: earlier (user, assistant) turns. answers: best first; the only one for KTO, with `desirable`. place: file
    and line. system: the text before the first question, None where there is none.
    """

    rounds: list[tuple[str, str]]
    question: str
    answers: list[str]
    place: str
    desirable: bool | None = None
    system: str | None = None


@dataclass(frozen=True)
class AnswerForm:
    """How the rows of one task hold their answers, as text and as tokens.

    read: reads a row from a JSON object and its place; raises DataError, which begins with the place. tokens: builds
    the row that the task's packing function takes from the tokens of the prompt, those of every answer, and the row.
    complete: adds what a row takes from other rows; a ValueError means that there are too few.
    """

    read: Callable[[dict[str, Any], str], PreferenceRow]
    tokens: Callable[[list[int], list[list[int]], PreferenceRow], TokenRow]
    complete: Callable[[Iterable[TokenRow]], Iterator[TokenRow]] = iter


class PreferenceLines:
    """The rows of a JSON-lines file, or of all `*.json` and `*.jsonl` files of a folder in the order of their names.

    Iterating reads the files again. Rows are one of

    * PaddleNLP: `src` (a string, or a list: the last is the question), `tgt` (the answers to the earlier ones),
      `response` (a list) and `sort` (a number for each, the highest is the best; for KTO 1 or 0);
    * Hugging Face: `prompt` (a string or messages; or `messages`) with `chosen` and `rejected` (strings or messages),
      or for KTO with `completion` and `label`. Without a prompt, `chosen` and `rejected` are whole conversations that
      differ in their last message.

    Messages may begin with a system message.
    """

    def __init__(self, path: str, form: AnswerForm):
        self.form = form
        found = Path(path)
        if found.is_file():
            self.files = [found]
        else:
            self.files = sorted(f for f in found.glob("*.json*") if f.suffix in (".json", ".jsonl"))
        if not self.files:
            raise DataError(f"no preference data: {path} is neither a file nor a folder with *.json or *.jsonl files")

    def __iter__(self) -> Iterator[PreferenceRow]:
        for row, place in read_objects(self.files):
            yield self.form.read(row, place)


def ranked_row(row: dict[str, Any], place: str, counts: range, expected: str) -> PreferenceRow:
    """A row with ranked answers, in either form. counts: how many answers are accepted, and `expected` in words."""
    if "src" not in row:
        return _chosen_and_rejected(row, place)
    rounds, question, answers, sort = paddlenlp_answers(row, place, counts, expected)
    if len(set(sort)) != len(sort):
        raise DataError(f"{place}: the numbers in 'sort' must differ, the highest is the best answer; got {sort!r}")
    order = sorted(range(len(sort)), key=lambda i: -sort[i])
    return without_empty_answers(PreferenceRow(rounds, question, [answers[i] for i in order], place))


def paddlenlp_answers(
    row: dict[str, Any], place: str, counts: range, expected: str
) -> tuple[list[tuple[str, str]], str, list[str], list[float]]:
    """Earlier rounds, question, answers and their `sort` of a row in PaddleNLP's form; counts, expected: as above."""
    sources = texts_of(row, "src", place)
    targets = texts_of(row, "tgt", place) if row.get("tgt", []) != [] else []
    if targets == [""] and len(sources) == 1:  # PaddleNLP's files write an empty tgt as "" too
        targets = []
    if len(sources) != len(targets) + 1:
        raise DataError(
            f"{place}: 'src' must hold one text more than 'tgt' (the last is the question); "
            f"got {len(sources)} and {len(targets)}"
        )
    answers, sort = texts_of(row, "response", place), need(row, "sort", place)
    sort = sort if isinstance(sort, list) else [sort]
    if not all(isinstance(rank, (int, float)) for rank in sort):
        raise DataError(f"{place}: 'sort' must hold numbers; got {sort!r:.80}")
    if len(sort) != len(answers):
        raise DataError(f"{place}: {len(answers)} entries in 'response' and {len(sort)} in 'sort'")
    if len(answers) not in counts:
        raise DataError(f"{place}: 'response' must hold {expected}; got {len(answers)}")
    return list(zip(sources, targets, strict=False)), sources[-1], answers, sort


def _chosen_and_rejected(row: dict[str, Any], place: str) -> PreferenceRow:
    chosen, rejected = (need(row, key, place) for key in ("chosen", "rejected"))
    answers = [answer_of(value, name, place) for name, value in (("chosen", chosen), ("rejected", rejected))]
    key = next((key for key in ("prompt", "messages") if key in row), None)
    if key is None:
        if not (isinstance(chosen, list) and isinstance(rejected, list)):
            raise DataError(f"{place}: no 'prompt', 'messages' or 'src'; the row has {keys_of(row)}")
        if not chosen or chosen[:-1] != rejected[:-1]:
            raise DataError(
                f"{place}: without 'prompt', 'chosen' and 'rejected' must differ in their last message only"
            )
        system, rounds, question = conversation_of(chosen[:-1], "chosen", place)
    else:
        system, rounds, question = prompt_of(row, key, ("chosen", "rejected"), place)
    return without_empty_answers(PreferenceRow(rounds, question, answers, place, system=system))


def conversation_of(value: Any, key: str, place: str) -> tuple[str | None, list[tuple[str, str]], str]:
    """System text, earlier rounds and question of a string, or of messages that end with the user's."""
    if isinstance(value, str):
        return None, [], value
    system, messages = split_system(messages_of(value, key, place))
    roles = [role for role, _ in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise DataError(
            f"{place}: the messages before the answers must alternate user, assistant, ..., user; got {roles}"
        )
    texts = [text for _, text in messages]
    return system, list(zip(texts[0::2], texts[1::2], strict=False)), texts[-1]


def prompt_of(
    row: dict[str, Any], key: str, answers: tuple[str, ...], place: str
) -> tuple[str | None, list[tuple[str, str]], str]:
    """System text, earlier rounds and question before the answers in the keys `answers`.

    Where an answer is the last message of a whole conversation, everything before it is the prompt. Raises DataError
    unless that begins with row[key] and is the same for all answers.
    """
    talks = [row[name][:-1] if isinstance(row[name], list) and len(row[name]) > 1 else None for name in answers]
    whole = next((talk for talk in talks if talk is not None), None)
    if whole is None:
        return conversation_of(row[key], key, place)
    names = " and ".join(map(repr, answers))
    messages = messages_of(whole, answers[0], place)
    if isinstance(row[key], str):
        prompt, start = [("user", row[key])], split_system(messages)[1]
    else:
        prompt, start = messages_of(row[key], key, place), messages
    if start[: len(prompt)] != prompt:
        raise DataError(f"{place}: the conversation in {names} does not begin with {key!r}")
    if any(talk != whole if talk is not None else start != prompt for talk in talks):
        raise DataError(f"{place}: the conversations in {names} must differ in their last message only")
    return conversation_of(whole, answers[0], place)


def answer_of(value: Any, key: str, place: str) -> str:
    """The answer in a string, in a message of the assistant, or in the last of several messages."""
    if isinstance(value, str):
        return value
    messages = messages_of([value] if isinstance(value, dict) else value, key, place)
    if not messages or messages[-1][0] != "assistant":
        raise DataError(f"{place}: {key!r} must end with a message of the assistant")
    return messages[-1][1]


def without_empty_answers(row: PreferenceRow) -> PreferenceRow:
    """The row itself. Raises DataError where one of its answers is blank."""
    if not all(answer.strip() for answer in row.answers):
        raise DataError(f"{row.place}: an answer is empty")
    return row
