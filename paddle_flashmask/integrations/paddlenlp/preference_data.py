"""Preference rows as tokens, packed, and batches under PaddleNLP's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from paddle_flashmask.packing import (
    AnswerPack,
    KTOCollator,
    PreferenceCollator,
    RewardCollator,
    pack_kto,
    pack_preference,
    pack_reward,
    stream_answers,
    with_kl_answers,
)

from .chat import DataError, encode_chat, with_system
from .data import PackDataset, PackStreamDataset
from .preference_rows import PreferenceLines, PreferenceRow

_PACK = {"dpo": pack_preference, "rm": pack_reward, "kto": pack_kto}
_KIND = {"dpo": "preference", "rm": "reward", "kto": "kto"}

# Tokens before the conversation, of every earlier round, of the question, of every answer.
Encoded = tuple[list[int], list[list[int]], list[int], list[list[int]]]


@dataclass
class TokenizedAnswers:
    """Rows as the token lists that `pack_preference`, `pack_reward` and `pack_kto` take.

    As in PaddleNLP's DPO: `bos` and the question, then an answer and `eos`; an earlier round is `bos`, its question,
    its answer and `eos`. With `chat`, as the tokenizer's chat template has it. Of the earlier rounds the latest that
    fit max_length with both answers are kept whole; `cut_rows` counts the rows that lost one in the last pass.
    """

    rows: PreferenceLines
    tokenizer: Any
    max_length: int
    chat: bool = False
    cut_rows: int = field(default=0, init=False)
    cut_means: ClassVar[str] = "rows lost earlier rounds to max_seq_len"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.cut_rows = 0
        tokenized = map(self._tokenized, self.rows)
        if self.rows.task != "kto":
            yield from tokenized
            return
        try:
            yield from with_kl_answers(tokenized)
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{', '.join(map(str, self.rows.files))}: {error}") from error

    def _tokenized(self, row: PreferenceRow) -> dict[str, Any]:
        encode = self._encode_chat if self.chat else self._encode
        system, rounds, question, answers = encode(row)
        if len(answers) > self.max_length:
            raise DataError(f"{row.place}: {len(answers)} answers do not fit into {self.max_length} tokens")
        if not question:
            raise DataError(f"{row.place}: the question has no tokens")
        room = self.max_length - len(system) - len(question) - sum(map(len, answers))
        prompt = question
        for earlier in reversed(rounds):
            room -= len(earlier)
            if room < 0:
                self.cut_rows += 1
                break
            prompt = earlier + prompt
        prompt = system + prompt
        if self.rows.task == "kto":
            return {"prompt": prompt, "answer": answers[0], "desirable": row.desirable}
        if self.rows.task == "rm":
            return {"prompt": prompt, "answers": answers}
        return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}

    def _encode(self, row: PreferenceRow) -> Encoded:
        eos = [self.tokenizer.eos_token_id]
        *earlier, question = with_system(row.system, [*(user for user, _ in row.rounds), row.question])
        rounds = [
            self._ids(user, special=True) + self._ids(assistant) + eos
            for user, (_, assistant) in zip(earlier, row.rounds, strict=True)
        ]
        return [], rounds, self._ids(question, special=True), [self._ids(answer) + eos for answer in row.answers]

    def _encode_chat(self, row: PreferenceRow) -> Encoded:
        sources = [*(user for user, _ in row.rounds), row.question]
        earlier = [assistant for _, assistant in row.rounds]
        encoded = [encode_chat(self.tokenizer, row.system, sources, [*earlier, answer], {}) for answer in row.answers]
        system, rounds = encoded[0]
        return system, [user + bot for user, bot in rounds[:-1]], rounds[-1][0], [turns[-1][1] for _, turns in encoded]

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return list(self.tokenizer(text.strip(), add_special_tokens=special)["input_ids"])


def pack_answers(
    rows: TokenizedAnswers, max_prompt_length: int, order: str, lazy: bool
) -> PackDataset | PackStreamDataset:
    """Packs of at most rows.max_length tokens; rows that are longer are cut, and counted. lazy: as for `pack_rows`."""
    options = {"max_prompt_length": max_prompt_length, "order": order, "too_long": "truncate"}
    task = rows.rows.task
    if lazy:
        return PackStreamDataset(stream_answers(_KIND[task], rows, rows.max_length, **options))
    return PackDataset(_PACK[task](rows, rows.max_length, **options))


@dataclass(frozen=True)
class DPOBatches:
    """`PreferenceCollator` under the names of PaddleNLP's DPOTrainer. Labels are 0, not -100, outside an answer."""

    collate: PreferenceCollator

    def __call__(self, packs: list[AnswerPack]) -> dict[str, np.ndarray]:
        batch = _renamed(self.collate(packs))
        indices = batch["response_indexs"]
        batch["chosen_labels"] = _inside(batch["labels"], indices[:, [0, 1, 2]])
        batch["rejected_labels"] = _inside(batch.pop("labels"), indices[:, [0, 2, 3]])
        return batch


@dataclass(frozen=True)
class KTOBatches:
    """`KTOCollator` under the names of PaddleNLP's KTOTrainer."""

    collate: KTOCollator

    def __call__(self, packs: list[AnswerPack]) -> dict[str, np.ndarray]:
        batch = _renamed(self.collate(packs))
        indices = batch["response_indexs"]
        batch["response_labels"] = _inside(batch["labels"], indices[:, [0, 1, 2]])
        batch["response_kl_labels"] = _inside(batch.pop("labels"), indices[:, [0, 2, 3]])
        return batch


@dataclass(frozen=True)
class RewardBatches:
    """`RewardCollator` with the mask under PaddleNLP's name."""

    collate: RewardCollator

    def __call__(self, packs: list[AnswerPack]) -> dict[str, np.ndarray]:
        return _renamed(self.collate(packs))


def _renamed(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "startend_row_indices" in batch:
        batch["attn_mask_startend_row_indices"] = batch.pop("startend_row_indices")[..., 0]
    if "response_indices" in batch:
        batch["response_indexs"] = batch.pop("response_indices")
    return batch


def _inside(labels: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """labels within the spans (batch row, start, end), 0 elsewhere."""
    kept = np.zeros_like(labels)
    for row, start, end in spans:
        kept[row, start:end] = labels[row, start:end]
    return kept
