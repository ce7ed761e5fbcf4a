"""Problems of context parallel attention: masks, rows of every rank and features, with one device's results."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from registry_masks import NAMES, build_mask

BATCH, HEAD_DIM, HEAD_DIM_V = 2, 8, 12
# In draft training the keys are more than the rows.
MASKS = [name for name in NAMES if name != "draft_training"]


@dataclass(frozen=True)
class Case:
    """Attention with a mask of the registry, by name; `options` are arguments of the operator."""

    mask: str | None
    seqlen: int
    rows: list[list[tuple[int, int]]]
    heads_q: int = 4
    heads_kv: int = 2
    heads_mask: int = 1
    sink: bool = False
    dtype: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)

    def columns(self) -> tuple[np.ndarray | None, bool]:
        """startend_row_indices [B, Hm, N, n] and causal."""
        if self.mask is None:
            return None, self.options.get("causal", False)
        mask = build_mask(self.mask, self.seqlen, BATCH, self.heads_mask)
        return mask.expand(BATCH, self.heads_mask).startend_row_indices, mask.causal

    def tensors(self) -> dict[str, paddle.Tensor]:
        """Random inputs of the whole sequence and gradients of out and lse."""
        rng = np.random.default_rng(zlib.crc32(repr(self).encode()))
        heads = {
            "query": (self.heads_q, HEAD_DIM),
            "key": (self.heads_kv, HEAD_DIM),
            "value": (self.heads_kv, HEAD_DIM_V),
        }
        shapes = {name: (BATCH, self.seqlen, *sizes) for name, sizes in heads.items()}
        shapes |= {"sink": (self.heads_q,), "dout": (BATCH, self.seqlen, self.heads_q, HEAD_DIM_V)}
        shapes |= {"dlse": (BATCH, self.heads_q, self.seqlen)}
        return {
            name: paddle.to_tensor(rng.standard_normal(shape), "float32" if name == "dlse" else self.dtype)
            for name, shape in shapes.items()
        }


def rows_of(tensor: paddle.Tensor, ranges: list[tuple[int, int]], axis: int) -> paddle.Tensor:
    """The rows of one rank."""
    numbers = np.concatenate([np.empty(0, np.int64), *(np.arange(begin, end) for begin, end in ranges)])
    return paddle.to_tensor(np.take(tensor.numpy(), numbers, axis=axis))
