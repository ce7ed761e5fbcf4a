"""Peers of our kernels: the back ends of torch's scaled_dot_product_attention, compiled FlexAttention with block masks,
and FlashAttention-3 if it is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from . import flash_attention3
from .paper_masks import PaperMask

Tensors = dict[str, torch.Tensor]
MaskFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

SDPA = {
    "sdpa_flash": SDPBackend.FLASH_ATTENTION,
    "sdpa_cudnn": SDPBackend.CUDNN_ATTENTION,
}
_COMPILE_LIMIT = 512


@dataclass
class Peer:
    """Output [B, S, H, D] of a peer, and its calls to time."""

    out: torch.Tensor
    forward: Callable[[], object]
    backward: Callable[[], tuple[torch.Tensor, ...]]
    heads_first: bool
    no_backward: str = ""  # reason why it has none

    def gradients(self) -> tuple[torch.Tensor, ...]:
        """Gradients of query, key and value, [B, S, H, D]."""
        return tuple(_axes(gradient, self.heads_first) for gradient in self.backward())


def sdpa(name: str, inputs: Tensors, causal: bool, scale: float) -> Peer:
    """One back end of torch. Raises RuntimeError if it refuses the problem."""

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(SDPA[name]):
            return torch.nn.functional.scaled_dot_product_attention(
                query, key, value, is_causal=causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
            )

    return _peer(attend, inputs)


def flex(mask: PaperMask, inputs: Tensors, scale: float, idiomatic: bool) -> Peer:
    """FlexAttention. idiomatic: with the mask as its users write it, instead of from the columns."""
    for limit in ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit"):
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, _COMPILE_LIMIT)
    device = inputs["query"].device
    function = idiomatic_function(mask, device) if idiomatic else column_function(mask, device)
    blocks = None if function is None else block_mask(function, mask.seqlen, device)
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        grouped = query.shape[1] != key.shape[1]
        return compiled(query, key, value, block_mask=blocks, scale=scale, enable_gqa=grouped)

    return _peer(attend, inputs)


def flash_attention(mask: PaperMask, inputs: Tensors, scale: float, modules: tuple[str, ...]) -> Peer:
    """FlashAttention from the first of these modules. Raises NotRun if it is absent or does not support the mask."""
    query = inputs["query"]

    def lengths(starts: list[int]) -> torch.Tensor:
        return torch.tensor(starts, dtype=torch.int32, device=query.device)

    attend = flash_attention3.attention(flash_attention3.interface(modules), mask, query.shape[0], scale, lengths)
    peer = _peer(attend, inputs, heads_first=False)
    try:
        peer.backward()
    except Exception as refusal:  # a package without a backward may raise anything
        peer.no_backward = f"{type(refusal).__name__}: {refusal}"
    return peer


def block_mask(function: MaskFunction, seqlen: int, device: torch.device) -> object:
    """Block mask, compiled on the GPU because the dense mask of a long sequence does not fit into memory."""
    return create_block_mask(function, None, None, seqlen, seqlen, device=str(device), _compile=device.type == "cuda")


def _axes(tensor: torch.Tensor, heads_first: bool) -> torch.Tensor:
    """Convert between [B, S, H, D] and the layout of the peer."""
    return tensor.transpose(1, 2) if heads_first else tensor


def _peer(attend: Callable[..., torch.Tensor], inputs: Tensors, heads_first: bool = True) -> Peer:
    leaves = [_axes(inputs[name].detach(), heads_first).requires_grad_() for name in ("query", "key", "value")]
    dout = _axes(inputs["dout"], heads_first)

    def forward() -> torch.Tensor:  # with gradients as in training, so that FlexAttention is compiled once
        return attend(*leaves)

    out = forward()

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, leaves, dout, retain_graph=True)

    return Peer(_axes(out.detach(), heads_first), forward, backward, heads_first)


def column_function(mask: PaperMask, device: torch.device) -> MaskFunction | None:
    """Mask function over the column bounds in flat buffers, or None for the full mask."""
    if mask.columns is None:
        return _causal if mask.causal else None
    bounds = [torch.from_numpy(channel.copy()).to(device) for channel in mask.columns[0, 0].T]
    if mask.causal and len(bounds) == 1:
        start = bounds[0]
        return lambda b, h, q, k: (q >= k) & (q < start[k])
    if mask.causal:
        start, end = bounds
        return lambda b, h, q, k: (q >= k) & ((q < start[k]) | (q >= end[k]))
    if len(bounds) == 2:
        start, end = bounds
        return lambda b, h, q, k: (q < start[k]) & (q >= end[k])
    lower_start, lower_end, upper_start, upper_end = bounds
    return lambda b, h, q, k: (
        ((q < lower_start[k]) | (q >= lower_end[k])) & ((q < upper_start[k]) | (q >= upper_end[k]))
    )


def idiomatic_function(mask: PaperMask, device: torch.device) -> MaskFunction | None:
    """Mask function as users write it, or from the columns if there is no shorter form."""
    window = mask.window

    def labels(lengths: tuple[int, ...]) -> torch.Tensor:
        """Index of the piece that each token belongs to."""
        return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(device, torch.int32)

    if mask.name == "sliding_window":
        return lambda b, h, q, k: (q >= k) & (q - k < window)
    if mask.name == "global_sliding_window":
        return lambda b, h, q, k: (q < 16) | (k < 16) | ((q - k <= window) & (k - q <= window))
    if mask.name == "prefix_lm_causal":
        prefix = mask.seqlen // 2
        return lambda b, h, q, k: (k < prefix) | (q >= k)
    document = labels(mask.documents)
    if mask.name == "causal_document":
        return lambda b, h, q, k: (q >= k) & (document[q] == document[k])
    if mask.name == "document":
        return lambda b, h, q, k: document[q] == document[k]
    if mask.name == "causal_blockwise":
        last = mask.seqlen - mask.documents[-1]
        return lambda b, h, q, k: (q >= k) & ((document[q] == document[k]) | (q >= last))
    if mask.name == "prefix_lm_document":
        in_prefix = _in_prefix(mask, device)
        return lambda b, h, q, k: (document[q] == document[k]) & (in_prefix[k] | (q >= k))
    if mask.name == "share_question":
        piece = labels(tuple(length for group in mask.questions for length in group))
        is_question = labels_of_questions(mask, device)
        return lambda b, h, q, k: (q >= k) & ((piece[q] == piece[k]) | (is_question[k] & (document[q] == document[k])))
    return column_function(mask, device)


def _in_prefix(mask: PaperMask, device: torch.device) -> torch.Tensor:
    marks = [
        position < prefix
        for length, prefix in zip(mask.documents, mask.prefixes, strict=True)
        for position in range(length)
    ]
    return torch.tensor(marks, device=device)


def labels_of_questions(mask: PaperMask, device: torch.device) -> torch.Tensor:
    marks = [index == 0 for group in mask.questions for index, length in enumerate(group) for _ in range(length)]
    return torch.tensor(marks, device=device)


def _causal(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q >= k
