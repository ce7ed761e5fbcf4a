"""Attention of PyTorch on the CPU."""

from __future__ import annotations

import os

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from .problem import Directions, Problem

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def sdpa(problem: Problem) -> Directions:
    """scaled_dot_product_attention, with is_causal or a dense additive mask made before the timing."""
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

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, (query, key, value), dout, retain_graph=True)

    return {"forward": forward, "backward": backward}


def flex(problem: Problem) -> Directions:
    """FlexAttention with a block mask, compiled before the timing. PyTorch has no CPU backward for it."""
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

    return {"forward": forward}
