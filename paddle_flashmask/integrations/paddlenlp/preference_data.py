"""Preference rows as tokens, packed, and batches under PaddleNLP's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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

from .data import DataError, PackDataset, PackStreamDataset
from .preference_rows import PreferenceLines, PreferenceRow

_PACK = {"dpo": pack_preference, "rm": pack_reward, "kto": pack_kto}
_KIND = {"dpo": "preference", "rm": "reward", "kto": "kto"}


@dataclass
class TokenizedAnswers:
    """Rows as the token lists that `pack_preference`, `pack_reward` and `pack_kto` take.

    As in PaddleNLP's DPO: `bos` and the question, then an answer and `eos`; an earlier round is `bos`, its question,
    its answer and `eos`. Of the earlier rounds the latest that fit max_length with both answers are kept whole;
    `cut_rows` counts the rows that lost one in the last pass.
    """

    rows: PreferenceLines
    tokenizer: Any
    max_length: int
    cut_rows: int = field(default=0, init=False)

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
        answers = [self._ids(answer) + [self.tokenizer.eos_token_id] for answer in row.answers]
        prompt = self._ids(row.question, special=True)
        if len(answers) > self.max_length:
            raise DataError(f"{row.place}: {len(answers)} answers do not fit into {self.max_length} tokens")
        if not prompt:
            raise DataError(f"{row.place}: the question has no tokens")
        room = self.max_length - len(prompt) - sum(map(len, answers))
        for user, assistant in reversed(row.rounds):
            earlier = self._ids(user, special=True) + self._ids(assistant) + [self.tokenizer.eos_token_id]
            room -= len(earlier)
            if room < 0:
                self.cut_rows += 1
                break
            prompt = earlier + prompt
        if self.rows.task == "kto":
            return {"prompt": prompt, "answer": answers[0], "desirable": row.desirable}
        if self.rows.task == "rm":
            return {"prompt": prompt, "answers": answers}
        return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}

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
