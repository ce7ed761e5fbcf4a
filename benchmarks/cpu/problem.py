"""Problem to time, and the calls that a contestant makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paddle_flashmask.masks import ColumnMask

Directions = dict[str, Callable[[], object]]
"""Calls to time: `forward`, and `backward` if the contestant has one."""


@dataclass(frozen=True)
class Problem:
    mask: ColumnMask
    name: str
    heads: int
    head_dim: int
    dtype: str

    @property
    def seqlen(self) -> int:
        return self.mask.seqlen_q

    @property
    def pairs(self) -> int:
        """Number of visible pairs over all heads."""
        return self.mask.statistics().visible_pairs * self.heads

    def tensors(self) -> list[np.ndarray]:
        """query, key, value, dout as float32 [1, S, H, D]."""
        rng = np.random.default_rng(0)
        shape = (1, self.seqlen, self.heads, self.head_dim)
        return [rng.standard_normal(shape, dtype=np.float32) for _ in range(4)]
