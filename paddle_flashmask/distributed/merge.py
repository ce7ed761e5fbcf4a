"""Merging of partial results by their lse: attention over several sets of keys, as if over all of them at once.

With lse = log(sum exp(score)), the result over two sets of keys is the mean of both, weighted by exp(lse) (online
softmax, arXiv 1805.02867; ring attention, arXiv 2310.01889).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import paddle
from paddle import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """What the backward pass knows about the rows of this rank: the merged result and its gradients.

    query, out and dout are [B, S, H, D or Dv]; lse and dlse are float32 [B, H, S].
    """

    query: Tensor
    out: Tensor
    lse: Tensor
    dout: Tensor
    dlse: Tensor


class MergedResult:
    """Results of rows over the keys so far: out float32 [B, S, H, Dv] and lse float32 [B, H, S]."""

    def __init__(self, batch: int, rows: int, heads: int, head_dim_v: int) -> None:
        self.out = paddle.zeros([batch, rows, heads, head_dim_v], "float32")
        self.lse = paddle.full([batch, heads, rows], -math.inf, "float32")

    def add(self, rows: tuple[int, int], out: Tensor, lse: Tensor) -> None:
        """Merge a result of rows [begin, end) over other keys. A row without keys has lse = -inf and adds nothing."""
        begin, end = rows
        kept_lse = self.lse[:, :, begin:end]
        total = log_add_exp(kept_lse, lse)
        kept = self.out[:, begin:end] * _weight(kept_lse, total)
        self.out[:, begin:end] = kept + out.astype("float32") * _weight(lse, total)
        self.lse[:, :, begin:end] = total

    def add_sink(self, sink: Tensor) -> None:
        """Add exp(sink), [H], to the denominator of every row."""
        sink = sink.astype("float32").reshape([1, -1, 1]).expand(self.lse.shape)
        total = log_add_exp(self.lse, sink)
        self.out = self.out * _weight(self.lse, total)
        self.lse = total


def log_add_exp(a: Tensor, b: Tensor) -> Tensor:
    """Return log(exp(a) + exp(b)); -inf where both are -inf."""
    largest = paddle.maximum(a, b)
    base = _finite(largest)
    total = base + paddle.log(paddle.exp(a - base) + paddle.exp(b - base))
    return paddle.where(largest == -math.inf, largest, total)  # Paddle's vectorized log(0) is finite


def sink_gradient(sink: Tensor, given: Rows) -> Tensor:
    """Return the gradient of the sink, [H], from the rows of this rank: sum exp(sink - lse) * (dlse - delta)."""
    delta = (given.dout.astype("float64") * given.out.astype("float64")).sum(-1).transpose([0, 2, 1])
    lse = given.lse.astype("float64")
    share = paddle.exp(sink.astype("float64").reshape([1, -1, 1]) - _finite(lse))
    share = paddle.where(lse == -math.inf, paddle.zeros_like(share), share)
    return (share * (given.dlse.astype("float64") - delta)).sum(axis=[0, 2]).astype("float32").astype(sink.dtype)


def _weight(lse: Tensor, total: Tensor) -> Tensor:
    """Return exp(lse - total) as [B, S, H, 1]; 0 where both are -inf."""
    return paddle.exp(lse - _finite(total)).transpose([0, 2, 1]).unsqueeze(-1)


def _finite(lse: Tensor) -> Tensor:
    return paddle.where(lse == -math.inf, paddle.zeros_like(lse), lse)
