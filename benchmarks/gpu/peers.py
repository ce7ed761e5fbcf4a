"""Peers of our kernels by name, in the order in which they are measured.

Each takes a mask, inputs [B, S, H, D] and a softmax scale, and raises NotRun where its package is absent or has no
call for the problem.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tools.gpu_check.outcome import NotRun

from . import cudnn_flex, flash_attention3, flex, jax_flash, packages
from .paper_masks import PaperMask
from .peer import Peer, Tensors, checked_backward, of_autograd


def sdpa(mask: PaperMask, inputs: Tensors, scale: float, backend: SDPBackend) -> Peer:
    """One back end of torch's scaled_dot_product_attention. Raises RuntimeError if it refuses the problem."""
    if mask.columns is not None:
        raise NotRun(f"torch's attention has no {mask.name} mask without a dense one")

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(
                query, key, value, is_causal=mask.causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
            )

    return of_autograd(attend, inputs)


def flash_attention(mask: PaperMask, inputs: Tensors, scale: float, modules: tuple[str, ...]) -> Peer:
    """FlashAttention from the first of these modules."""
    query = inputs["query"]

    def lengths(starts: list[int]) -> torch.Tensor:
        return torch.tensor(starts, dtype=torch.int32, device=query.device)

    attend = flash_attention3.attention(packages.import_first(*modules), mask, query.shape[0], scale, lengths)
    return checked_backward(of_autograd(attend, inputs, heads_first=False))


PEERS: dict[str, Callable[[PaperMask, Tensors, float], Peer]] = {
    "sdpa_flash": functools.partial(sdpa, backend=SDPBackend.FLASH_ATTENTION),
    "sdpa_cudnn": functools.partial(sdpa, backend=SDPBackend.CUDNN_ATTENTION),
    "flex": flex.peer,
    "flex_idiomatic": functools.partial(flex.peer, idiomatic=True),
    "fa3": functools.partial(flash_attention, modules=flash_attention3.MODULES),
    "fa3_jax": jax_flash.peer,
    "fa4": functools.partial(flash_attention, modules=flash_attention3.MODULES_4),
    "cudnn_flex": cudnn_flex.peer,
    "flex_flash": functools.partial(flex.peer, backend="FLASH"),
}
