"""What is timed: each contestant is a forward and, where it has one, a backward over the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import paddle_flashmask
from paddle_flashmask.masks import ColumnMask


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
        """Visible pairs over all heads."""
        return self.mask.statistics().visible_pairs * self.heads

    def tensors(self) -> list[np.ndarray]:
        """query, key, value, dout as float32 [1, S, H, D]."""
        rng = np.random.default_rng(0)
        shape = (1, self.seqlen, self.heads, self.head_dim)
        return [rng.standard_normal(shape, dtype=np.float32) for _ in range(4)]


@dataclass(frozen=True)
class Contestant:
    name: str
    forward: Callable[[], object]
    backward: Callable[[], object] | None


def ours(problem: Problem) -> Contestant:
    """The operator as a Paddle user calls it."""
    query, key, value, dout = (paddle.to_tensor(t).astype(problem.dtype) for t in problem.tensors())
    columns = None if problem.name in ("full", "causal") else problem.mask.to_paddle()
    causal = problem.mask.causal if columns is not None else problem.name == "causal"

    def attend() -> paddle.Tensor:
        return paddle_flashmask.flashmask_attention(query, key, value, columns, causal=causal)

    @paddle.no_grad()
    def forward() -> paddle.Tensor:
        return attend()

    for tensor in (query, key, value):
        tensor.stop_gradient = False
    out = attend()
    return Contestant(
        "ours", forward, lambda: paddle.grad([out], [query, key, value], grad_outputs=[dout], retain_graph=True)
    )


def torch_sdpa(problem: Problem) -> Contestant:
    """scaled_dot_product_attention; is_causal where that says it all, else a dense additive mask built beforehand."""
    dtype = getattr(torch, problem.dtype)
    query, key, value, dout = (torch.from_numpy(t).to(dtype).transpose(1, 2) for t in problem.tensors())
    bias = None
    if problem.name not in ("full", "causal"):
        visible = torch.from_numpy(problem.mask.to_dense())
        bias = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, float("-inf"))

    def attend() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, is_causal=problem.name == "causal"
        )

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return attend()

    for tensor in (query, key, value):
        tensor.requires_grad_()
    out = attend()
    return Contestant(
        "torch_sdpa", forward, lambda: torch.autograd.grad(out, (query, key, value), dout, retain_graph=True)
    )


def torch_flex(problem: Problem) -> Contestant:
    """Compiled FlexAttention with its block mask, compiled before it is timed; PyTorch has no CPU backward for it."""
    dtype = getattr(torch, problem.dtype)
    query, key, value, _ = (torch.from_numpy(t).to(dtype).transpose(1, 2).contiguous() for t in problem.tensors())
    visible = torch.from_numpy(problem.mask.to_dense())[0, 0]

    def sees(batch: torch.Tensor, head: torch.Tensor, row: torch.Tensor, col: torch.Tensor) -> torch.Tensor:
        return visible[row, col]

    blocks = None
    if problem.name != "full":
        blocks = create_block_mask(sees, None, None, problem.seqlen, problem.seqlen, device="cpu")
    compiled = torch.compile(flex_attention)

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return compiled(query, key, value, block_mask=blocks)

    return Contestant("torch_flex", forward, None)
