"""Preference data: questions with answers, in PaddleNLP's form or as Hugging Face data sets have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.data_sets import DataSet
from ..errors import DataError
from .data_sets import DataSetMixture
from .files import path_sources
from .forms import preference_row, system_of
from .forms.paddlenlp import with_system
from .keys import check_names, check_one_form, check_spelling, check_text_only, check_thinking
from .lines import Line, Record, each_row, keys_of, need, object_of, texts_of
from .messages import (
    CONTEXT,
    Message,
    check_turns,
    context_of,
    is_blank,
    message,
    messages_of,
    same_messages,
    split_system,
)
from .other_tasks import check_preference_keys

TokenRow = dict[str, Any]


@dataclass(frozen=True)
class PreferenceRow:
    """A prompt with its answers.

    prompt: the messages before the answers. answers: messages of the assistant, best first; the only one for KTO, with
    `desirable`. place: file and line or row. context: variables for the chat template.
    """

    prompt: list[Message]
    answers: list[Message]
    place: str
    desirable: bool | None = None
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AnswerForm:
    """How the rows of one task hold their answers, as text and as tokens.

    read: reads a row from a JSON object and its place; raises DataError, which begins with the place. tokens: builds
    the row that the task's packing function takes from the tokens of the prompt, those of every answer, and the row.
    answers: the keys of rows with a `prompt` that hold them. unread: keys that other trainers of the task follow, and
    this one does not. complete: adds what a row takes from other rows; a ValueError means that there are too few.
    """

    read: Callable[[dict[str, Any], str], PreferenceRow]
    tokens: Callable[[list[int], list[list[int]], PreferenceRow], TokenRow]
    complete: Callable[[Iterable[TokenRow]], Iterator[TokenRow]] = iter
    answers: tuple[str, ...] = ("chosen", "rejected")
    unread: tuple[str, ...] = ()


class PreferenceLines:
    """The rows of one or several data sets; `path_sources` finds their files.

    Iterating reads the files again. Rows are one of

    * PaddleNLP: `src` (a string, or a list: the last is the question), `tgt` (the answers to the earlier ones),
      `response` (a list) and `sort` (a number for each, the highest is the best; for KTO 1 or 0);
    * Hugging Face: `prompt` (a string or messages; or `messages`) with `chosen` and `rejected` (strings or messages),
      or for KTO with `completion` and `label`. Without a prompt, `chosen` and `rejected` are whole conversations that
      differ in their last message, and `messages` without a `completion` end with it;
    * Alpaca or ShareGPT with `chosen` and `rejected`, or for KTO with `kto_tag`.

    Messages may begin with a system message.
    """

    def __init__(self, data_sets: str | Sequence[DataSet], form: AnswerForm, split: str = "train", seed: int = 0):
        """data_sets: the path of one, or several with weights. seed: of their order, and of the rows that a weight
        takes."""
        self.form = form
        self.mixture = DataSetMixture(data_sets, split, path_sources, seed)

    @property
    def files(self) -> list[Path]:
        return self.mixture.files

    def __iter__(self) -> Iterator[PreferenceRow]:
        return each_row(self.lines(), self.parse, every_error=False)

    def lines(self) -> Iterator[Line]:
        return self.mixture.lines()

    def parse(self, record: Record, place: str) -> PreferenceRow:
        """The row of one record. Raises DataError, which begins with `place`, for one that cannot be used."""
        given = object_of(record, place)
        check_text_only(given, place)
        check_preference_keys(given, self.form.answers, place)
        for key in self.form.unread:
            if key in given:
                raise DataError(f"{place}: {key!r} has no effect here: the loss of this task has none")
        row = preference_row(given, self.form.answers, place)
        _check_keys(row, place)
        found = self.form.read(row, place)
        check_names(given, split_system(found.prompt)[0], place)
        check_thinking(given, (entry.get("content") for entry in found.answers), place)
        return found


def _check_keys(row: dict[str, Any], place: str) -> None:
    """Raise DataError for a row of two forms, or with a misspelt key. `messages` may repeat the prompt or `chosen`."""
    check_one_form(row, ("src",), ("prompt", "messages", "chosen", "rejected", "completion"), place)
    if row.get("messages") not in (row.get("prompt"), row.get("chosen")):
        check_one_form(row, ("prompt",), ("messages",), place)
    prompts = () if any(key in row for key in ("src", "prompt", "messages")) else ("prompt", "messages")
    check_spelling(row, (*CONTEXT, *prompts), place)


def ranked_row(row: dict[str, Any], place: str, counts: range, expected: str) -> PreferenceRow:
    """A row with ranked answers, in either form. counts: how many answers are accepted, and `expected` in words."""
    if "src" not in row:
        return _chosen_and_rejected(row, place)
    prompt, answers, sort = paddlenlp_answers(row, place, counts, expected)
    if len(set(sort)) != len(sort):
        raise DataError(f"{place}: the numbers in 'sort' must differ, the highest is the best answer; got {sort!r}")
    order = sorted(range(len(sort)), key=lambda i: -sort[i])
    return checked(PreferenceRow(prompt, [answers[i] for i in order], place, context=context_of(row, place)))


def paddlenlp_answers(
    row: dict[str, Any], place: str, counts: range, expected: str
) -> tuple[list[Message], list[Message], list[float]]:
    """Prompt, answers and their `sort` of a row in PaddleNLP's form; counts, expected: as above."""
    row = with_system(row, place)
    sources = texts_of(row, "src", place)
    targets = texts_of(row, "tgt", place) if row.get("tgt", []) != [] else []
    if targets == [""] and len(sources) == 1:  # PaddleNLP's files write an empty tgt as "" too
        targets = []
    if len(sources) != len(targets) + 1:
        raise DataError(
            f"{place}: 'src' must hold one text more than 'tgt' (the last is the question); "
            f"got {len(sources)} and {len(targets)}"
        )
    answers, sort = _response_of(row, place), need(row, "sort", place)
    sort = sort if isinstance(sort, list) else [sort]
    if not all(isinstance(rank, (int, float)) and math.isfinite(rank) for rank in sort):
        raise DataError(f"{place}: 'sort' must hold numbers; got {sort!r:.80}")
    if len(sort) != len(answers):
        raise DataError(f"{place}: {len(answers)} entries in 'response' and {len(sort)} in 'sort'")
    if len(answers) not in counts:
        raise DataError(f"{place}: 'response' must hold {expected}; got {len(answers)}")
    pairs = zip(sources, targets, strict=False)
    earlier = [entry for pair in pairs for entry in map(message, ("user", "assistant"), pair)]
    prompt = [*system_of(row, place), *earlier, message("user", sources[-1])]
    return prompt, [message("assistant", answer) for answer in answers], sort


def _response_of(row: dict[str, Any], place: str) -> list[str]:
    """The texts of `response`; ERNIEKit puts each into a list of its own, which may go on with more rounds."""
    value = need(row, "response", place)
    answers = value if isinstance(value, list) else [value]
    if any(isinstance(answer, list) and len(answer) > 1 for answer in answers):
        raise DataError(f"{place}: an answer of 'response' has several rounds; only one can be compared")
    texts = [answer[0] if isinstance(answer, list) and answer else answer for answer in answers]
    return texts_of({**row, "response": texts}, "response", place)


def _chosen_and_rejected(row: dict[str, Any], place: str) -> PreferenceRow:
    chosen, rejected = (need(row, key, place) for key in ("chosen", "rejected"))
    answers = [answer_of(value, name, place) for name, value in (("chosen", chosen), ("rejected", rejected))]
    key = next((key for key in ("prompt", "messages") if key in row), None)
    if key is None:
        if not (isinstance(chosen, list) and isinstance(rejected, list)):
            raise DataError(
                f"{place}: no 'prompt', 'messages' or 'src'; the row has {keys_of(row)}; texts need a 'prompt', since "
                "where it ends in them would be a guess"
            )
        prompt, other = (
            messages_of(value[:-1], name, place) for value, name in ((chosen, "chosen"), (rejected, "rejected"))
        )
        if not same_messages(prompt, other):
            raise DataError(
                f"{place}: without 'prompt', 'chosen' and 'rejected' must differ in their last message only"
            )
    else:
        prompt = prompt_of(row, key, ("chosen", "rejected"), place)
    return checked(PreferenceRow(prompt, answers, place, context=context_of(row, place)))


def prompt_of(row: dict[str, Any], key: str, answers: tuple[str, ...], place: str) -> list[Message]:
    """The messages before the answers in the keys `answers`.

    Where an answer is the last message of a whole conversation, everything before it is the prompt. Raises DataError
    unless that begins with row[key] and is the same for all answers.
    """
    given = (
        [message("user", row[key])] if isinstance(row[key], str) else messages_of(row[key], key, place, or_text=True)
    )
    talks = [
        messages_of(row[name][:-1], name, place) if isinstance(row[name], list) and len(row[name]) > 1 else None
        for name in answers
    ]
    whole = next((talk for talk in talks if talk is not None), None)
    if whole is None:
        return given
    names = " and ".join(map(repr, answers))
    start = split_system(whole)[1] if isinstance(row[key], str) else whole
    if not same_messages(start[: len(given)], given):
        raise DataError(f"{place}: the conversation in {names} does not begin with {key!r}")
    if not all(same_messages(talk, whole) if talk is not None else same_messages(start, given) for talk in talks):
        raise DataError(f"{place}: the conversations in {names} must differ in their last message only")
    return whole


def answer_of(value: Any, key: str, place: str) -> Message:
    """The answer in a string, in a message of the assistant, or in the last of several messages."""
    if isinstance(value, str):
        return message("assistant", value)
    messages = messages_of([value] if isinstance(value, dict) else value, key, place, or_text=True)
    if not messages or messages[-1]["role"] != "assistant":
        raise DataError(f"{place}: {key!r} must end with a message of the assistant")
    return messages[-1]


def checked(row: PreferenceRow) -> PreferenceRow:
    """The row itself. Raises DataError unless each of its answers continues the prompt, and none is blank."""
    if any(map(is_blank, row.answers)):
        raise DataError(f"{row.place}: an answer is empty")
    check_turns([*row.prompt, row.answers[0]], "the prompt with its answer", "assistant", row.place)
    return row
