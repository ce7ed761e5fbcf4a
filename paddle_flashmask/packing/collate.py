"""Packs to one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .packs import IGNORED_LABEL, Pack

MASKS = ("columns", "dense")


@dataclass(frozen=True)
class SFTCollator:
    """Pads packs on the right to one length S and writes their mask.

    pad_token_id: the input id of padding; its label is -100 and its position 0.
    length: S itself, or None for the longest pack of the batch rounded up to `multiple_of`.
    mask: "columns" gives `startend_row_indices`, int32 [B, 1, S, 1], the causal-document columns of FlashMask: the
        end of the key's document. A padding key gets 0: no row sees it; and every document ends before the padding,
        so padding rows see nothing. "dense" gives the same mask as `attention_mask`, bool [B, 1, S, S], True where
        a query may attend.

    Calling it with B packs returns int64 [B, S] arrays `input_ids`, `labels`, `position_ids` and the mask.
    Raises ValueError where a pack is longer than `length`, or for an empty batch.
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

    def __call__(self, packs: Sequence[Pack]) -> dict[str, np.ndarray]:
        size = self._padded_length(packs)
        batch = {
            "input_ids": np.full((len(packs), size), self.pad_token_id, dtype=np.int64),
            "labels": np.full((len(packs), size), IGNORED_LABEL, dtype=np.int64),
            "position_ids": np.zeros((len(packs), size), dtype=np.int64),
        }
        ends = np.zeros((len(packs), size), dtype=np.int32)
        for b, pack in enumerate(packs):
            n = len(pack)
            batch["input_ids"][b, :n] = pack.input_ids
            batch["labels"][b, :n] = pack.labels
            batch["position_ids"][b, :n] = pack.position_ids
            ends[b, :n] = pack.document_ends
        if self.mask == "columns":
            batch["startend_row_indices"] = ends[:, None, :, None]
        else:
            rows = np.arange(size, dtype=np.int32)
            causal = rows[:, None] >= rows[None, :]
            batch["attention_mask"] = ((rows[:, None] < ends[:, None, :]) & causal)[:, None]
        return batch

    def _padded_length(self, packs: Sequence[Pack]) -> int:
        if not packs:
            raise ValueError("a batch needs at least one pack; got none")
        longest = max(len(pack) for pack in packs)
        if self.length is None:
            return -(-longest // self.multiple_of) * self.multiple_of
        if longest > self.length:
            raise ValueError(f"a pack has {longest} tokens, more than length = {self.length}")
        return self.length
