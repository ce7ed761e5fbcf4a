"""Preference rows as tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..errors import DataError
from .chat import Chat, encode_chat, with_system
from .jinja_chat import Rounds
from .preferences import PreferenceLines, PreferenceRow, TokenRow

# Tokens before the conversation, of every earlier round, of the question, of every answer.
Encoded = tuple[list[int], list[list[int]], list[int], list[list[int]]]


@dataclass
class PreferenceTokens:
    """Rows as the token lists that the task's packing function takes.

    As in PaddleNLP's DPO: `bos` and the question, then an answer and `eos`; an earlier round is `bos`, its question,
    its answer and `eos`. With `chat` the tokenizer's chat template is used instead. Of the earlier rounds the latest
    that fit into max_length with all answers are kept whole; `cut_rows` counts the rows that lost one in the last pass.
    """

    rows: PreferenceLines
    tokenizer: Any
    max_length: int
    chat: bool = False
    cut_rows: int = field(default=0, init=False)
    cut_means: ClassVar[str] = "rows lost earlier rounds to max_seq_len"

    @property
    def files(self) -> list[Path]:
        return self.rows.files

    def __iter__(self) -> Iterator[TokenRow]:
        self.cut_rows = 0
        try:
            yield from self.rows.form.complete(map(self._tokens_of, self.rows))
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{', '.join(map(str, self.files))}: {error}") from error

    def _tokens_of(self, row: PreferenceRow) -> TokenRow:
        encode = self._encode_chat if self.chat else self._encode
        system, rounds, question, answers = encode(row)
        if len(answers) > self.max_length:
            raise DataError(f"{row.place}: {len(answers)} answers do not fit into {self.max_length} tokens")
        if not question:
            raise DataError(f"{row.place}: the question has no tokens")
        room = self.max_length - len(system) - len(question) - sum(map(len, answers))
        prompt = question
        cut = len(rounds) < len(row.rounds)
        for earlier in reversed(rounds):
            room -= len(earlier)
            if room < 0:
                cut = True
                break
            prompt = earlier + prompt
        self.cut_rows += cut
        return self.rows.form.tokens(system + prompt, answers, row)

    def _encode(self, row: PreferenceRow) -> Encoded:
        eos = [self.tokenizer.eos_token_id]
        *earlier, question = with_system(row.system, [*(user for user, _ in row.rounds), row.question])
        rounds = [
            self._ids(user, special=True) + self._ids(assistant) + eos
            for user, (_, assistant) in zip(earlier, row.rounds, strict=True)
        ]
        return [], rounds, self._ids(question, special=True), [self._ids(answer) + eos for answer in row.answers]

    def _encode_chat(self, row: PreferenceRow) -> Encoded:
        sizes = [0] * len(row.answers)
        if row.rounds:
            sizes = [len(self._rounds(row, answer, 0)[1][-1][1]) for answer in row.answers]
        encoded = [
            self._rounds(row, answer, self.max_length - sum(sizes) + size)
            for answer, size in zip(row.answers, sizes, strict=True)
        ]
        system, rounds = encoded[0]
        if any((other, turns[:-1], turns[-1][0]) != (system, rounds[:-1], rounds[-1][0]) for other, turns in encoded):
            raise DataError(f"{row.place}: with the chat template, the prompts before the answers differ")
        return system, [user + bot for user, bot in rounds[:-1]], rounds[-1][0], [turns[-1][1] for _, turns in encoded]

    def _rounds(self, row: PreferenceRow, answer: str, room: int) -> tuple[list[int], Rounds]:
        sources = [*(user for user, _ in row.rounds), row.question]
        targets = [*(assistant for _, assistant in row.rounds), answer]
        return encode_chat(self.tokenizer, Chat(row.system, sources, targets, row.place), room)

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return list(self.tokenizer(text.strip(), add_special_tokens=special)["input_ids"])
