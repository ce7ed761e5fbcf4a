"""Differentiable sums over a group whose processes all compute the same loss from them.

Each process then has the gradient of the sum, which is that of its own part: nothing is sent in the backward pass.
"""

from __future__ import annotations

from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor
from paddle.autograd import PyLayer


class Total(PyLayer):
    """The sum of the tensors of all processes, which have one shape."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: Any) -> Tensor:
        total = part.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Whole(PyLayer):
    """The rows of all processes, [B, N, ...], from those of this process, [B, S, ...].

    index: int64 [S], the rows of this process.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, index: Tensor, seqlen: int, group: Any) -> Tensor:
        ctx.index = index
        batch, _, *rest = part.shape
        whole = paddle.zeros([batch, seqlen, *rest], part.dtype).index_add(index, 1, part)
        dist.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.index_select(ctx.index, axis=1)
