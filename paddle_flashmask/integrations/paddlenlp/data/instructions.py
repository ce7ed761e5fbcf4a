"""Instruction data of SFT as tokens and labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paddle_flashmask.packing import IGNORED_LABEL

from ..config.data_sets import DataSet
from ..errors import DataError
from .chat import Chat, Turn, cut_prompt, encode_chat, size_of, with_system
from .data_sets import DataSetMixture
from .files import split_sources
from .forms import CONVERTED, FORM_KEYS, FORMS, context_with_functions, form_of
from .keys import check_names, check_one_form, check_spelling, check_text_only, check_thinking
from .learned import Learned, check_is_learned, learned_by_all, learned_by_label, up_to_last_learned
from .line_tokens import LineTokens, TokenizedLine
from .lines import Line, Record, each_row, need, object_of
from .messages import CONTEXT, Message, check_turns, context_of, message, messages_of, split_system, texts_in_turns
from .other_tasks import check_instruction_keys, check_is_chosen, check_no_label, check_no_pair

_MOST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SFTRow:
    """One row of a data file: a conversation that ends with the assistant.

    context: variables for the chat template. place: file and line or row. weight: the factor of the row's loss, None
    where the file has none. learned: whether each of the assistant's messages is learned, the last one always; None
    means all.
    """

    messages: list[Message]
    context: dict[str, Any]
    place: str
    weight: float | None = None
    learned: Learned | None = None


class SFTLines:
    """The rows of a split of one or several data sets; `split_sources` finds their files.

    A row has one of FORMS, and optionally a `weight` and a `context` object for the chat template. Or it has `prompt`,
    a string or messages, and `answers` to it, strings or lists of messages, with `weights`: a row for each answer.
    Iterating reads the files again.

    data_sets: the path of one, or several with weights. seed: of their order, and of the rows that a weight takes.
    """

    def __init__(self, data_sets: str | Sequence[DataSet], split: str, seed: int = 0):
        self.mixture = DataSetMixture(data_sets, split, split_sources, seed)

    @property
    def files(self) -> list[Path]:
        return self.mixture.files

    def __iter__(self) -> Iterator[SFTRow]:
        return itertools.chain.from_iterable(each_row(self.lines(), self.parse, every_error=False))

    def lines(self) -> Iterator[Line]:
        return self.mixture.lines()

    def parse(self, record: Record, place: str) -> list[SFTRow]:
        """The rows of one record. Raises DataError, which begins with `place`, for one that cannot be used."""
        row = object_of(record, place)
        check_instruction_keys(row, place)
        check_text_only(row, place)
        if "answers" in row and ("prompt" in row or not any(key in row for key in FORM_KEYS)):
            check_one_form(row, ("answers",), (*FORM_KEYS, "system", "weight"), place)
            check_spelling(row, ("weights", *CONTEXT), place)
            check_no_pair(row, place)
            check_no_label(row, place)
            return answer_rows(row, place)
        form = form_of(row, FORMS, place)
        row = form.renamed(row, place)
        check_one_form(row, ("weights",), form.keys, place)
        check_spelling(row, ("weight", *CONTEXT, *form.optional), place)
        found = form.conversation(row, place)
        check_turns(found.messages, found.name, "assistant", place)
        check_is_chosen(row, found.messages, place)
        check_names(row, split_system(found.messages)[0], place)
        check_thinking(row, (entry["content"] for entry in found.messages if entry["role"] == "assistant"), place)
        learned = learned_by_all(found.learned, learned_by_label(row, found.messages, place))
        messages, learned = up_to_last_learned(found.messages, learned, place)
        context = context_with_functions(row, place) if form in CONVERTED else context_of(row, place)
        return [SFTRow(messages, context, place, _weight_of(row.get("weight"), "weight", place), learned)]


def answer_rows(row: dict[str, Any], place: str) -> list[SFTRow]:
    """A row for each of the `answers` to a `prompt`."""
    prompt, answers, context = need(row, "prompt", place), row["answers"], context_of(row, place)
    if not (isinstance(answers, list) and answers):
        raise DataError(f"{place}: 'answers' must be a list of at least one answer; got {answers!r:.80}")
    weights = row.get("weights")
    if weights is None:
        weights = [None] * len(answers)
    if not isinstance(weights, list) or len(weights) != len(answers):
        raise DataError(
            f"{place}: 'weights' must be a list of {len(answers)} numbers, one per answer; got {weights!r:.80}"
        )
    question = (
        [message("user", prompt)] if isinstance(prompt, str) else messages_of(prompt, "prompt", place, or_text=True)
    )
    check_names(row, split_system(question)[0], place)
    rows = []
    for number, (answer, weight) in enumerate(zip(answers, weights, strict=True)):
        key = f"answers[{number}]"
        rounds = (
            [message("assistant", answer)] if isinstance(answer, str) else messages_of(answer, key, place, or_text=True)
        )
        check_turns([*question, *rounds], f"'prompt' with {key}", "assistant", place)
        for entry in (*question, *rounds):
            if entry["role"] == "assistant":
                check_is_learned(entry, f"a message of 'prompt' with {key}", place)
        rows.append(SFTRow([*question, *rounds], context, place, _weight_of(weight, f"weights[{number}]", place)))
    return rows


def _weight_of(value: Any, key: str, place: str) -> float | None:
    return None if value is None else number_of(value, key, place)


def number_of(value: Any, key: str, place: str) -> float:
    """The value as a float. Raises DataError, which begins with `place`, unless it is a finite number in float32."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MOST_FLOAT32:
        raise DataError(f"{place}: {key!r} must be a finite number in float32; got {value!r:.80}")
    return float(value)


@dataclass
class SFTTokens(LineTokens):
    """Rows as shifted `input_ids` and `labels` of at most max_length - 1 tokens, cut by PaddleNLP's rules.

    Without a chat template the source is cut to src_length tokens on the tokenizer's truncation_side (the side that
    PaddleNLP's run_finetune.py passes has no effect), source and target together are cut at max_length, and eos
    follows if it fits. With a chat template the latest rounds that fit are kept. `cut_rows` counts the rows that lost
    tokens in the last pass over the data.

    weighted: whether rows have a `weight`, 1 where the file has none; without it a weight in the file is an error.
    """

    rows: SFTLines
    tokenizer: Any
    src_length: int
    max_length: int
    weighted: bool = False
    cut_rows: int = field(default=0, init=False)
    cut_means: ClassVar[str] = "cut to src_length or max_length"

    def convert(self, record: Record, place: str) -> TokenizedLine:
        converted = [self._tokens_of(row) for row in self.rows.parse(record, place)]
        return TokenizedLine([tokens for tokens, _ in converted], sum(cut for _, cut in converted))

    def _tokens_of(self, row: SFTRow) -> tuple[dict[str, Any], bool]:
        """The tokens of a row, and whether it was cut."""
        if row.weight is not None and not self.weighted:
            raise DataError(f"{row.place}: a weight needs share_prefixes = true")
        encode = self._encode_single if self.tokenizer.chat_template is None else self._encode_conversation
        tokens, answer, cut = encode(row)
        labels = [token if wanted else IGNORED_LABEL for token, wanted in zip(tokens, answer, strict=True)]
        if len(tokens) < 2:
            raise DataError(f"{row.place}: the row has fewer than two tokens")
        weight = {"weight": 1.0 if row.weight is None else row.weight} if self.weighted else {}
        return {"input_ids": tokens[:-1], "labels": labels[1:], **weight}, cut

    def _encode_single(self, row: SFTRow) -> tuple[list[int], list[bool], bool]:
        system, messages = split_system(row.messages)
        if len(messages) > 2 or "tools" in row.context:
            rounds = sum(entry["role"] == "user" for entry in messages)
            needs = f"a conversation of {rounds} rounds" if rounds > 1 else "a conversation with tools"
            raise DataError(f"{row.place}: {needs} needs a chat template (key chat_template)")
        question, answer = texts_in_turns(messages, row.place)
        text = with_system(system, [question])[0]
        source = self.tokenizer(text, add_special_tokens=True)["input_ids"]
        cut = len(source) > self.src_length
        if cut:
            source = self.tokenizer(text, max_length=self.src_length, truncation=True, add_special_tokens=True)[
                "input_ids"
            ]
        target = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        target = target + [self.tokenizer.eos_token_id]
        room = self.max_length - len(source)
        cut = cut or len(target) > room
        target = target[:room]
        return source + target, [False] * len(source) + [True] * len(target), cut

    def _encode_conversation(self, row: SFTRow) -> tuple[list[int], list[bool], bool]:
        system, turns = encode_chat(self.tokenizer, Chat(row.messages, row.place, row.context), self.max_length)
        room = self.max_length - len(system)
        if room < 2:
            raise DataError(f"{row.place}: the system text has {len(system)} tokens, max_length is {self.max_length}")
        kept: list[Turn] = []
        cut = len(turns) < sum(entry["role"] == "user" for entry in row.messages)
        for turn in reversed(turns):
            room -= size_of(turn)
            if room < 0:
                cut = True
                break
            kept.insert(0, turn)
        if not kept:
            (question, answer), *later = turns[-1]
            question = cut_prompt(self.tokenizer, question, max(1, self.src_length - len(system)))
            kept = [[(question, answer), *later]]
        pairs = [pair for turn in kept for pair in turn]
        wanted = [True] * len(pairs) if row.learned is None else row.learned[-len(pairs) :]
        tokens, learned = list(system), [False] * len(system)
        for (before, answer), flag in zip(pairs, wanted, strict=True):
            tokens += before + answer
            learned += [False] * len(before) + [flag] * len(answer)
        return tokens[: self.max_length], learned[: self.max_length], cut
