"""Preference rows as tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import DataError
from .chat import Chat, Turn, encode_chat, with_system
from .line_tokens import LineTokens, TokenizedLine
from .lines import Record
from .messages import Message, split_system, texts_in_turns
from .preferences import PreferenceLines, PreferenceRow, TokenRow

# Tokens before the conversation, of every earlier turn, of the last turn up to the answer, of every answer.
Encoded = tuple[list[int], list[list[int]], list[int], list[list[int]]]


@dataclass
class PreferenceTokens(LineTokens):
    """Rows as the token lists that the task's packing function takes.

    As in PaddleNLP's DPO, but with the blanks around texts: `bos` and the question, then an answer and `eos`; an
    earlier round is `bos`, its question, its answer and `eos`. With `chat` the tokenizer's chat template is used
    instead. Of the earlier rounds the latest that fit into max_length with all answers are kept whole; `cut_rows`
    counts the rows that lost one in the last pass.
    """

    rows: PreferenceLines
    tokenizer: Any
    max_length: int
    chat: bool = False
    cut_rows: int = field(default=0, init=False)
    cut_means: ClassVar[str] = "lost earlier rounds to max_seq_len"

    def complete(self, rows: Iterator[TokenRow]) -> Iterator[TokenRow]:
        try:
            yield from self.rows.form.complete(rows)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{', '.join(map(str, self.files))}: {error}") from error

    def convert(self, record: Record, place: str) -> TokenizedLine:
        row = self.rows.parse(record, place)
        encode = self._encode_chat if self.chat else self._encode
        system, earlier, question, answers = encode(row)
        if len(answers) >= self.max_length:
            raise DataError(f"{row.place}: {len(answers)} answers do not fit into {self.max_length} tokens")
        if not question:
            raise DataError(f"{row.place}: the question has no tokens")
        room = self.max_length - len(system) - len(question) - sum(map(len, answers))
        prompt = question
        cut = len(earlier) + 1 < sum(entry["role"] == "user" for entry in row.prompt)
        for turn in reversed(earlier):
            room -= len(turn)
            if room < 0:
                cut = True
                break
            prompt = turn + prompt
        return TokenizedLine([self.rows.form.tokens(system + prompt, answers, row)], int(cut))

    def _encode(self, row: PreferenceRow) -> Encoded:
        eos = [self.tokenizer.eos_token_id]
        system, messages = split_system(row.prompt)
        texts = texts_in_turns([*messages, *row.answers], row.place)
        if row.context.get("tools"):
            raise DataError(f"{row.place}: 'tools' need a Jinja chat template")
        prompt, answers = texts[: len(messages)], texts[len(messages) :]
        *users, question = with_system(system, prompt[0::2])
        earlier = [
            self._ids(user, special=True) + self._ids(assistant) + eos
            for user, assistant in zip(users, prompt[1::2], strict=True)
        ]
        return [], earlier, self._ids(question, special=True), [self._ids(answer) + eos for answer in answers]

    def _encode_chat(self, row: PreferenceRow) -> Encoded:
        sizes = [0] * len(row.answers)
        if len(row.prompt) > 1:
            sizes = [len(self._turns(row, answer, 0)[1][-1][-1][1]) for answer in row.answers]
        encoded = [
            self._turns(row, answer, self.max_length - sum(sizes) + size)
            for answer, size in zip(row.answers, sizes, strict=True)
        ]
        prompts = [(system, turns[:-1], turns[-1][:-1], turns[-1][-1][0]) for system, turns in encoded]
        if any(prompt != prompts[0] for prompt in prompts):
            raise DataError(f"{row.place}: with the chat template, the prompts before the answers differ")
        system, earlier, calls, question = prompts[0]
        answers = [turns[-1][-1][1] for _, turns in encoded]
        return system, list(map(_joined, earlier)), _joined(calls) + question, answers

    def _turns(self, row: PreferenceRow, answer: Message, room: int) -> tuple[list[int], list[Turn]]:
        return encode_chat(self.tokenizer, Chat([*row.prompt, answer], row.place, row.context), room)

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])


def _joined(turn: Turn) -> list[int]:
    return [token for before, learned in turn for token in before + learned]
