"""Collation of packs into one padded batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .answer_tree import AnswerTreePack
from .answers import AnswerPack
from .attention import IGNORED_LABEL
from .packs import PackLike
from .tree import TreePack

MASKS = ("columns", "dense")


@dataclass(frozen=True)
class SFTCollator:
    """Collator that pads packs on the right to one length S and builds their mask.

    A call with B packs returns int64 [B, S] arrays `input_ids`, `labels` and `position_ids`, and the mask; for packs of
    `pack_tree` also `label_weights`, float32 [B, S], and `label_counts`, int64 [B, S], 0 where there is no label. It
    raises ValueError for an empty batch, a pack longer than `length`, and a mix of causal and other packs.

    Attributes:
        pad_token_id: input id of padding; its label is -100 and its position 0.
        length: S, or None for the longest pack of the batch rounded up to `multiple_of`.
        multiple_of: divisor of S.
        mask: "columns" or "dense". "columns" gives `startend_row_indices`, int32 [B, 1, S, n]: LTS (n = 1) for causal
            packs, LTS and UTE (n = 2) for others. The values of a padding key are 0, so no row sees it; every document
            ends before the padding, so padding rows see nothing. "dense" gives the same mask as `attention_mask`, bool
            [B, 1, S, S], True for visible pairs.
    """

    pad_token_id: int
    length: int | None = None
    multiple_of: int = 1
    mask: str = "columns"

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise ValueError(f"mask must be one of {', '.join(MASKS)}; got {self.mask!r}")
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of must be at least 1; got {self.multiple_of}")
        if self.length is not None and self.length % self.multiple_of:
            raise ValueError(f"length {self.length} is not a multiple of multiple_of = {self.multiple_of}")

    def __call__(self, packs: Sequence[PackLike]) -> dict[str, np.ndarray]:
        size = self._padded_length(packs)
        batch = {
            "input_ids": np.full((len(packs), size), self.pad_token_id, dtype=np.int64),
            "labels": np.full((len(packs), size), IGNORED_LABEL, dtype=np.int64),
            "position_ids": np.zeros((len(packs), size), dtype=np.int64),
        }
        if len({pack.causal for pack in packs}) > 1:
            raise ValueError("the packs of a batch must all be causal, or none of them; got both")
        causal = packs[0].causal
        columns = np.zeros((len(packs), 1, size, 1 if causal else 2), dtype=np.int32)
        for b, pack in enumerate(packs):
            n = len(pack)
            batch["input_ids"][b, :n] = pack.input_ids
            batch["labels"][b, :n] = pack.labels
            batch["position_ids"][b, :n] = pack.position_ids
            columns[b, 0, :n] = pack.columns
        if all(isinstance(pack, TreePack) for pack in packs):
            batch["label_weights"] = _padded([pack.label_weights for pack in packs], size, np.float32)
            batch["label_counts"] = _padded([pack.label_counts for pack in packs], size, np.int64)
        if self.mask == "columns":
            batch["startend_row_indices"] = columns
        else:
            rows = np.arange(size, dtype=np.int32)
            first = rows if causal else columns[:, :, None, :, 1]
            batch["attention_mask"] = (rows[:, None] >= first) & (rows[:, None] < columns[:, :, None, :, 0])
        return batch

    def _padded_length(self, packs: Sequence[PackLike]) -> int:
        if not packs:
            raise ValueError("a batch needs at least one pack; got none")
        longest = max(len(pack) for pack in packs)
        if self.length is None:
            return -(-longest // self.multiple_of) * self.multiple_of
        if longest > self.length:
            raise ValueError(f"a pack has {longest} tokens, more than length = {self.length}")
        return self.length


class PreferenceCollator(SFTCollator):
    """`SFTCollator` for the packs of `pack_preference`, with `response_indices`, int64 [P, 4], for the P pairs of the
    batch: (batch row, chosen start, chosen end = rejected start, rejected end). labels[row, start:end] are the tokens
    of an answer, each at the place that predicts it.

    Packs of prefix trees have `label_places` instead, int64 [N, 3], one for each token of each answer in order: (batch
    row, place of its label, answer). Answers 2p and 2p + 1 are the chosen and the rejected one of pair p."""

    def __call__(self, packs: Sequence[AnswerPack | AnswerTreePack]) -> dict[str, np.ndarray]:
        batch = super().__call__(packs)
        if isinstance(packs[0], AnswerTreePack):
            return {**batch, "label_places": _answer_tokens(packs)}
        pairs = [(b, *pack.answers[i, 1:], pack.answers[i + 1, 2]) for b, pack, i in _pairs(packs)]
        batch["response_indices"] = np.array(pairs, dtype=np.int64)
        return batch


class KTOCollator(SFTCollator):
    """`SFTCollator` for the packs of `pack_kto`, with `response_indices`, int64 [N, 5]: (batch row, answer start,
    answer end = start of the KL answer, end of the KL answer, 1 if desirable else 0).

    Packs of prefix trees have `label_places` instead, as for `PreferenceCollator`, where answers 2q and 2q + 1 are the
    own and the KL answer of question q, and `desirable`, int64 [Q], 1 or 0."""

    def __call__(self, packs: Sequence[AnswerPack | AnswerTreePack]) -> dict[str, np.ndarray]:
        batch = super().__call__(packs)
        if isinstance(packs[0], AnswerTreePack):
            desirable = np.concatenate([pack.desirable for pack in packs]).astype(np.int64)
            return {**batch, "label_places": _answer_tokens(packs), "desirable": desirable}
        samples = [
            (b, *pack.answers[i, 1:], pack.answers[i + 1, 2], pack.desirable[i // 2]) for b, pack, i in _pairs(packs)
        ]
        batch["response_indices"] = np.array(samples, dtype=np.int64)
        return batch


class RewardCollator(SFTCollator):
    """`SFTCollator` for the packs of `pack_reward`, without labels, and with `answer_places`, int64 [A, 3], for the A
    answers of the batch: (batch row, place of the last token, question). Questions are numbered across the batch; the
    answers to one question are contiguous, best first."""

    def __call__(self, packs: Sequence[AnswerPack | AnswerTreePack]) -> dict[str, np.ndarray]:
        batch = super().__call__(packs)
        del batch["labels"]
        places, questions = [], 0
        for b, pack in enumerate(packs):
            for question, place in _last_tokens(pack):
                places.append((b, place, questions + question))
            questions = places[-1][-1] + 1
        batch["answer_places"] = np.array(places, dtype=np.int64)
        return batch


class RolloutCollator(SFTCollator):
    """`SFTCollator` for packs of `pack_tree` whose rows have `values`.

    In place of weights and counts of labels a batch has the terms of a loss, one for each label of each sequence, N in
    all: `label_places`, int64 [N, 3], (batch row, place, sequence), and the values, float32 [N] by name. Sequences are
    numbered across the batch.

    A call raises ValueError for packs without values, and for a value with the name of another key of the batch.
    """

    def __call__(self, packs: Sequence[TreePack]) -> dict[str, np.ndarray]:
        batch = super().__call__(packs)
        if not all(isinstance(pack, TreePack) and pack.values is not None for pack in packs):
            raise ValueError("RolloutCollator needs packs of pack_tree whose rows have 'values'")
        del batch["label_weights"], batch["label_counts"]
        firsts = np.cumsum([0, *(pack.sequences for pack in packs)])
        places = [
            np.stack([np.full_like(values.places, b), values.places, values.sequences + first], axis=1)
            for b, (values, first) in enumerate(zip((pack.values for pack in packs), firsts, strict=False))
        ]
        batch["label_places"] = np.concatenate(places)
        for name in packs[0].values.numbers:
            if name in batch:
                raise ValueError(f"a value may not be called {name!r}: the batch has a key of this name")
            numbers = [pack.values.numbers[name] for pack in packs]
            batch[name] = np.concatenate(numbers).astype(np.float32)
        return batch


def _answer_tokens(packs: Sequence[AnswerTreePack]) -> np.ndarray:
    """int64 [N, 3]: (batch row, place, answer), with answers numbered across the batch."""
    firsts = np.cumsum([0, *(len(pack.questions) for pack in packs)])
    tokens = [
        np.insert(pack.answer_tokens + (0, first), 0, b, axis=1)
        for b, (pack, first) in enumerate(zip(packs, firsts, strict=False))
    ]
    return np.concatenate(tokens)


def _last_tokens(pack: AnswerPack | AnswerTreePack) -> Iterator[tuple[int, int]]:
    """(question, place of the last token) of every answer."""
    if isinstance(pack, AnswerTreePack):
        return zip(pack.questions.tolist(), pack.last_places.tolist(), strict=True)
    return ((question, end - 1) for question, _, end in pack.answers.tolist())


def _pairs(packs: Sequence[AnswerPack]):
    """Return (batch row, pack, number of the first answer) of every question, each with two answers."""
    return [(b, pack, i) for b, pack in enumerate(packs) for i in range(0, len(pack.answers), 2)]


def _padded(rows: Sequence[np.ndarray], size: int, dtype: type) -> np.ndarray:
    """Return rows of up to `size` values as [B, size], with 0 behind them."""
    padded = np.zeros((len(rows), size), dtype=dtype)
    for b, row in enumerate(rows):
        padded[b, : len(row)] = row
    return padded
