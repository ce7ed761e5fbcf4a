"""Description of one attention call: shapes, dtype, mask and features, with its random data."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from .dtypes import round_to
from .specification import dropout_keep, visible


@dataclass
class Problem:
    batch: int = 1
    seqlen_q: int = 64
    seqlen_k: int = 64
    heads_q: int = 2
    heads_kv: int = 2
    heads_mask: int = 1
    head_dim: int = 16
    head_dim_v: int = 16
    dtype: str = "float32"
    causal: bool = False
    causal_offset: int | None = None  # None: Sk - Sq
    window: tuple[int, int] = (-1, -1)
    startend: np.ndarray | None = None  # int32 [B, Hm, Sk, n]
    block_mask: np.ndarray | None = None  # int32 [B, Hm, ceil(Sq/128), ceil(Sk/128)]
    softmax_scale: float | None = None  # None: 1 / sqrt(D)
    dropout: float = 0.0
    dropout_place: tuple[int, int] = (0, 0)  # of the first row and key in the dropout pattern
    seed: int = 0x0123456789ABCDEF
    offset: int = 0x00000007_80000001
    sink: bool = False
    dlse: bool = False
    layout: str = "packed"
    magnitude: float = 1.0  # standard deviation of query, key and value
    data_seed: int = 0

    def __str__(self) -> str:
        shown = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                shown.append(f"{field.name}={value.dtype}{list(value.shape)}")
            elif value != field.default:
                shown.append(f"{field.name}={value}")
        return f"Problem({', '.join(shown)})"

    @property
    def scale(self) -> float:
        return float(np.float32(1.0 / math.sqrt(self.head_dim) if self.softmax_scale is None else self.softmax_scale))

    @property
    def offset_of_diagonal(self) -> int:
        return self.seqlen_k - self.seqlen_q if self.causal_offset is None else self.causal_offset

    @cached_property
    def visible(self) -> np.ndarray:
        """Visible pairs, bool [B, Hq, Sq, Sk]."""
        seen = visible(
            self.startend,
            self.causal,
            self.window,
            self.block_mask,
            self.seqlen_q,
            self.seqlen_k,
            self.offset_of_diagonal,
        )
        seen = np.repeat(seen, self.heads_q // seen.shape[1], axis=1)
        return np.broadcast_to(seen, (self.batch, *seen.shape[1:]))

    @cached_property
    def keep(self) -> np.ndarray | None:
        """Dropout factors, float64 [B, Hq, Sq, Sk]: 0 or 1 / (1 - dropout)."""
        if self.dropout == 0.0:
            return None
        row, key = self.dropout_place
        shape = (self.batch, self.heads_q, row + self.seqlen_q, key + self.seqlen_k)
        kept = dropout_keep(self.dropout, self.seed, self.offset, *shape)[:, :, row:, key:]
        return kept / (1.0 - float(np.float32(self.dropout)))

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Inputs by name, as float32 arrays that the dtype of the problem represents exactly."""
        random = np.random.default_rng(self.data_seed)
        B, Sq, Sk = self.batch, self.seqlen_q, self.seqlen_k

        def normal(*shape: int) -> np.ndarray:
            return random.standard_normal(shape, dtype=np.float32)

        data = {
            "query": round_to(self.magnitude * normal(B, Sq, self.heads_q, self.head_dim), self.dtype),
            "key": round_to(self.magnitude * normal(B, Sk, self.heads_kv, self.head_dim), self.dtype),
            "value": round_to(self.magnitude * normal(B, Sk, self.heads_kv, self.head_dim_v), self.dtype),
            "dout": round_to(normal(B, Sq, self.heads_q, self.head_dim_v), self.dtype),
        }
        if self.sink:
            data["sink"] = normal(self.heads_q) + np.float32(math.log(1 + self.seqlen_k / 4))
        if self.dlse:
            data["dlse"] = normal(B, self.heads_q, Sq)
        return data
