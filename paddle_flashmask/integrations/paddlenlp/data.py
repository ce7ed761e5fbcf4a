"""PaddleNLP's SFT data: `train.json` / `dev.json` JSON lines of `src` and `tgt`, tokenised and packed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import paddle

from paddle_flashmask.packing import (
    IGNORED_LABEL,
    DocumentAttention,
    Pack,
    PackedRows,
    PackedStream,
    SFTCollator,
    pack_sft,
    stream_sft,
)

from .chat import DataError, encode_chat, messages_of, split_system, with_system

CAUSAL = DocumentAttention()


@dataclass(frozen=True)
class SFTRow:
    """One row of a data file. `sources` and `targets` are the rounds of a conversation, usually one. `system` stands
    before them, "" where there is none; `context` is for the chat template."""

    sources: list[str]
    targets: list[str]
    context: dict[str, Any]
    place: str
    system: str = ""


class JSONLines:
    """The rows of `<folder>/<split>.json`, or of `<folder>/<split>/*.json` in the order of their names.

    A row is a JSON object on one line: `src` and `tgt`, strings, or lists of strings for a conversation, and an
    optional `context` object for the chat template; or `messages`, of a system (if any), then of user and assistant in
    turns. Blank lines are skipped. Iterating reads the files again.
    """

    def __init__(self, folder: str, split: str):
        single = Path(folder) / f"{split}.json"
        self.files = [single] if single.is_file() else sorted((Path(folder) / split).glob("*.json"))
        if not self.files:
            raise DataError(f"no {split} data: there is neither {single} nor {Path(folder) / split}/*.json")

    def __iter__(self) -> Iterator[SFTRow]:
        for path in self.files:
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield _parse_row(line, f"{path}:{number}")


def _parse_row(line: str, place: str) -> SFTRow:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected an object with 'src' and 'tgt'; got {type(row).__name__}")
    if "messages" in row and "src" not in row:
        return _messages_row(row["messages"], place)
    rounds = {}
    for key in ("src", "tgt"):
        if key not in row:
            raise DataError(f"{place}: no {key!r}; the row has {', '.join(map(repr, row)) or 'no keys'}")
        texts = row[key] if isinstance(row[key], list) else [row[key]]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{place}: {key!r} must be a string or a list of strings; got {row[key]!r:.80}")
        rounds[key] = texts
    if len(rounds["src"]) != len(rounds["tgt"]):
        raise DataError(f"{place}: {len(rounds['src'])} entries in 'src' and {len(rounds['tgt'])} in 'tgt'")
    context = row.get("context", {})
    if not isinstance(context, dict):
        raise DataError(f"{place}: 'context' must be an object; got {type(context).__name__}")
    return SFTRow(rounds["src"], rounds["tgt"], context, place)


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
class TokenizedRows:
    """Rows as shifted `input_ids` and `labels` of at most max_length - 1 tokens, cut by PaddleNLP's rules.

    Without a chat template: the source is cut to src_length tokens on the tokenizer's truncation_side (as PaddleNLP's
    run_finetune.py does in effect: the side it passes is ignored), source and target together are cut at max_length,
    and eos follows where it fits. With one: the latest rounds that fit are kept. `cut_rows` counts the rows that lost
    anything in the last pass over the data.
    """

    rows: JSONLines
    tokenizer: Any
    src_length: int
    max_length: int
    cut_rows: int = field(default=0, init=False)
    cut_means: ClassVar[str] = "rows cut to src_length or max_length"

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
        system, rounds = encode_chat(self.tokenizer, row.system, row.sources, row.targets, row.context)
        room = self.max_length - len(system)
        if room < 2:
            raise DataError(f"{row.place}: the system text has {len(system)} tokens, max_length is {self.max_length}")
        tokens: list[int] = []
        answer: list[bool] = []
        cut = False
        for user, bot in reversed(rounds):
            if len(tokens) + len(user) + len(bot) > room:
                cut = True
                if tokens:
                    break
                user = user[: max(0, self.src_length - len(system))]
                bot = bot[: room - len(user)]
            tokens = list(user) + list(bot) + tokens
            answer = [False] * len(user) + [True] * len(bot) + answer
            if cut:
                break
        return system + tokens, [False] * len(system) + answer, cut


class PackDataset(paddle.io.Dataset):
    """Map-style packs for PaddleNLP's trainer."""

    def __init__(self, packs: PackedRows):
        self.packs = packs

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> Pack:
        return self.packs[index]


class PackStreamDataset(paddle.io.IterableDataset):
    """Streamed packs for PaddleNLP's trainer; every pass reads the files again."""

    def __init__(self, packs: PackedStream):
        self.packs = packs

    def __iter__(self) -> Iterator[Pack]:
        return iter(self.packs)


def pack_rows(
    rows: TokenizedRows, order: str, lazy: bool, attention: DocumentAttention = CAUSAL
) -> PackDataset | PackStreamDataset:
    """Packs of at most max_length tokens; lazy streams them, 500 rows at a time, and keeps nothing."""
    options = {"order": order, "too_long": "error", "attention": attention}
    if lazy:
        return PackStreamDataset(stream_sft(rows, rows.max_length, **options))
    return PackDataset(pack_sft(rows, rows.max_length, **options))


@dataclass(frozen=True)
class PaddleNLPCollator:
    """`SFTCollator` under PaddleNLP's names: column indices are `attn_mask_startend_row_indices`, int32 [B, 1, S] where
    they have one bound and [B, 1, S, 2] where they have two."""

    collate: SFTCollator

    def __call__(self, packs: list[Pack]) -> dict[str, np.ndarray]:
        batch = self.collate(packs)
        columns = batch.pop("startend_row_indices", None)
        if columns is not None:
            batch["attn_mask_startend_row_indices"] = columns[..., 0] if columns.shape[-1] == 1 else columns
        return batch
