"""Instruction data of SFT: JSON lines of `src` and `tgt`, or of `messages`, as tokens and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from paddle_flashmask.packing import IGNORED_LABEL

from ..errors import DataError
from .chat import Chat, encode_chat, messages_of, split_system, with_system
from .lines import read_objects, texts_of

ENDINGS = (".json", ".jsonl")


@dataclass(frozen=True)
class SFTRow:
    """One row of a data file.

    sources, targets: the rounds of a conversation, usually one. context: variables for the chat template. place: file
    and line. system: the text before the first round, None where there is none.
    """

    sources: list[str]
    targets: list[str]
    context: dict[str, Any]
    place: str
    system: str | None = None


class SFTLines:
    """The rows of `<folder>/<split>.json` or `.jsonl`, or of such files in `<folder>/<split>/`, in the order of names.

    A row is a JSON object on one line. It has `src` and `tgt`, strings, or lists of strings for a conversation, and
    optionally a `context` object for the chat template; or it has `messages`: optionally one of the system, then of
    user and assistant in turns. Iterating reads the files again.
    """

    def __init__(self, folder: str, split: str):
        several = Path(folder) / split
        self.files = [file for file in (Path(folder) / f"{split}{end}" for end in ENDINGS) if file.is_file()]
        if len(self.files) > 1:
            raise DataError(f"both {self.files[0]} and {self.files[1].name} exist; which one holds the {split} data?")
        if not self.files:
            self.files = sorted(file for end in ENDINGS for file in several.glob(f"*{end}"))
        if not self.files:
            raise DataError(
                f"no {split} data: there is neither {several}.json, {several}.jsonl nor {several}/*.json or *.jsonl"
            )

    def __iter__(self) -> Iterator[SFTRow]:
        for row, place in read_objects(self.files):
            yield _parse_row(row, place)


def _parse_row(row: dict[str, Any], place: str) -> SFTRow:
    if "messages" in row and "src" not in row:
        return _messages_row(row["messages"], place)
    sources, targets = (texts_of(row, key, place) for key in ("src", "tgt"))
    if len(sources) != len(targets):
        raise DataError(f"{place}: {len(sources)} entries in 'src' and {len(targets)} in 'tgt'")
    context = row.get("context", {})
    if not isinstance(context, dict):
        raise DataError(f"{place}: 'context' must be an object; got {type(context).__name__}")
    return SFTRow(sources, targets, context, place)


def _messages_row(value: Any, place: str) -> SFTRow:
    system, messages = split_system(messages_of(value, "messages", place))
    roles = [role for role, _ in messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise DataError(
            f"{place}: 'messages' must alternate user, assistant, ..., and end with the assistant's; got {roles}"
        )
    texts = [text for _, text in messages]
    for number, text in enumerate(texts[1::2], start=1):
        if not text.strip():
            raise DataError(f"{place}: answer {number} of the assistant is empty")
    return SFTRow(texts[0::2], texts[1::2], {}, place, system)


@dataclass
class SFTTokens:
    """Rows as shifted `input_ids` and `labels` of at most max_length - 1 tokens, cut by PaddleNLP's rules.

    Without a chat template the source is cut to src_length tokens on the tokenizer's truncation_side (the side that
    PaddleNLP's run_finetune.py passes has no effect), source and target together are cut at max_length, and eos
    follows if it fits. With a chat template the latest rounds that fit are kept. `cut_rows` counts the rows that lost
    tokens in the last pass over the data.
    """

    rows: SFTLines
    tokenizer: Any
    src_length: int
    max_length: int
    cut_rows: int = field(default=0, init=False)
    cut_means: ClassVar[str] = "rows cut to src_length or max_length"

    @property
    def files(self) -> list[Path]:
        return self.rows.files

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        self.cut_rows = 0
        encode = self._encode_single if self.tokenizer.chat_template is None else self._encode_conversation
        for row in self.rows:
            tokens, answer, cut = encode(row)
            self.cut_rows += cut
            labels = [token if wanted else IGNORED_LABEL for token, wanted in zip(tokens, answer, strict=True)]
            if len(tokens) < 2:
                raise DataError(f"{row.place}: the row has fewer than two tokens")
            yield {"input_ids": tokens[:-1], "labels": labels[1:]}

    def _encode_single(self, row: SFTRow) -> tuple[list[int], list[bool], bool]:
        if len(row.sources) > 1:
            raise DataError(
                f"{row.place}: a conversation of {len(row.sources)} rounds needs a chat template (key chat_template)"
            )
        text = with_system(row.system, row.sources)[0]
        source = self.tokenizer(text, add_special_tokens=True)["input_ids"]
        cut = len(source) > self.src_length
        if cut:
            source = self.tokenizer(text, max_length=self.src_length, truncation=True, add_special_tokens=True)[
                "input_ids"
            ]
        target = self.tokenizer(row.targets[0], add_special_tokens=False)["input_ids"]
        target = target + [self.tokenizer.eos_token_id]
        room = self.max_length - len(source)
        cut = cut or len(target) > room
        target = target[:room]
        return source + target, [False] * len(source) + [True] * len(target), cut

    def _encode_conversation(self, row: SFTRow) -> tuple[list[int], list[bool], bool]:
        chat = Chat(row.system, row.sources, row.targets, row.place, row.context)
        system, rounds = encode_chat(self.tokenizer, chat, self.max_length)
        room = self.max_length - len(system)
        if room < 2:
            raise DataError(f"{row.place}: the system text has {len(system)} tokens, max_length is {self.max_length}")
        tokens: list[int] = []
        answer: list[bool] = []
        cut = len(rounds) < len(row.sources)
        for user, bot in reversed(rounds):
            if len(tokens) + len(user) + len(bot) > room:
                cut = True
                if tokens:
                    break
                user = user[: max(0, self.src_length - len(system))]
                bot = bot[: room - len(user)]
                tokens, answer = user + bot, [False] * len(user) + [True] * len(bot)
                break
            tokens = user + bot + tokens
            answer = [False] * len(user) + [True] * len(bot) + answer
        return system + tokens, [False] * len(system) + answer, cut
