"""Interface of a peer: its output, and its calls to time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .timing import Call

Tensors = dict[str, torch.Tensor]
INPUTS = ("query", "key", "value")


@dataclass
class Peer:
    """Output [B, S, H, D] of a peer, and its calls to time."""

    out: torch.Tensor
    forward: Call
    backward: Call  # returns the gradients of query, key and value in the peer's layout
    heads_first: bool = False
    no_backward: str = ""  # reason why it has none

    def gradients(self) -> tuple[torch.Tensor, ...]:
        """Gradients of query, key and value, [B, S, H, D]."""
        return tuple(axes(gradient, self.heads_first) for gradient in self.backward())


def axes(tensor: torch.Tensor, heads_first: bool) -> torch.Tensor:
    """Convert between [B, S, H, D] and the layout of the peer."""
    return tensor.transpose(1, 2) if heads_first else tensor


def of_autograd(attend: Callable[..., torch.Tensor], inputs: Tensors, heads_first: bool = True) -> Peer:
    """Peer of a function that torch differentiates."""
    leaves = [axes(inputs[name].detach(), heads_first).requires_grad_() for name in INPUTS]
    dout = axes(inputs["dout"], heads_first)

    def forward() -> torch.Tensor:  # with gradients as in training, so that FlexAttention is compiled once
        return attend(*leaves)

    out = forward()

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, leaves, dout, retain_graph=True)

    return Peer(axes(out.detach(), heads_first), forward, backward, heads_first)


def checked_backward(peer: Peer) -> Peer:
    """Note why the peer has no backward if its first call fails, as in packages that lack one."""
    try:
        peer.backward()
    except Exception as refusal:  # a package may raise anything
        peer.no_backward = f"{type(refusal).__name__}: {refusal}"
    return peer
