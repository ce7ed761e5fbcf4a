"""FlexAttention (Dong et al., arXiv 2412.05496), compiled with block masks, as a peer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from .packages import import_first
from .paper_masks import PaperMask
from .peer import Peer, Tensors, of_autograd

MaskFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
_COMPILE_LIMIT = 512
_FLASH_MODULE = "flash_attn.cute"  # of FlashAttention-4, which the back end FLASH calls


def peer(mask: PaperMask, inputs: Tensors, scale: float, idiomatic: bool = False, backend: str = "") -> Peer:
    """FlexAttention.

    Args:
        idiomatic: with the mask as its users write it, instead of from the columns.
        backend: FLASH for the kernels of FlashAttention-4; by default torch chooses among its own.

    Raises:
        NotRun: FLASH, whose package cannot be imported.
    """
    if backend == "FLASH":
        import_first(_FLASH_MODULE)
    for limit in ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit"):
        if hasattr(torch._dynamo.config, limit):
            setattr(torch._dynamo.config, limit, _COMPILE_LIMIT)
    device = inputs["query"].device
    function = idiomatic_function(mask, device) if idiomatic else column_function(mask, device)
    blocks = None if function is None else block_mask(function, mask.seqlen, device)
    compiled = torch.compile(flex_attention, dynamic=False)
    options = {"BACKEND": backend} if backend else None

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        grouped = query.shape[1] != key.shape[1]
        return compiled(query, key, value, block_mask=blocks, scale=scale, enable_gqa=grouped, kernel_options=options)

    return of_autograd(attend, inputs)


def block_mask(function: MaskFunction, seqlen: int, device: torch.device) -> object:
    """Block mask, compiled on the GPU because the dense mask of a long sequence does not fit into memory."""
    return create_block_mask(function, None, None, seqlen, seqlen, device=str(device), _compile=device.type == "cuda")


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

    if mask.form == "sliding_window":
        return lambda b, h, q, k: (q >= k) & (q - k < window)
    if mask.form == "global_sliding_window":
        return lambda b, h, q, k: (q < 16) | (k < 16) | ((q - k <= window) & (k - q <= window))
    if mask.form == "prefix_lm_causal":
        prefix = mask.seqlen // 2
        return lambda b, h, q, k: (k < prefix) | (q >= k)
    document = labels(mask.documents)
    if mask.form == "causal_document":
        return lambda b, h, q, k: (q >= k) & (document[q] == document[k])
    if mask.form == "document":
        return lambda b, h, q, k: document[q] == document[k]
    if mask.form == "causal_blockwise":
        last = mask.seqlen - mask.documents[-1]
        return lambda b, h, q, k: (q >= k) & ((document[q] == document[k]) | (q >= last))
    if mask.form == "prefix_lm_document":
        in_prefix = _in_prefix(mask, device)
        return lambda b, h, q, k: (document[q] == document[k]) & (in_prefix[k] | (q >= k))
    if mask.form == "share_question":
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
