"""FlashAttention-3 (Shah et al., 2024) as a peer, where a package that has it can be imported: whole and causal
attention, sliding windows by its window, documents by lengths. Other masks it has no call for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .outcome import NotRun
from .paper_masks import PaperMask

# The package of its authors under two names, and the forward alone (fa3-fwd).
MODULES = ("flash_attn_interface", "flash_attn_3.flash_attn_interface", "fa3_fwd_interface")
Tensor = Any


def interface() -> ModuleType:
    """Raises NotRun where no package has it."""
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise NotRun(f"absent: none of {', '.join(MODULES)} can be imported")


def attention(module: ModuleType, mask: PaperMask, batch: int, scale: float, lengths: Callable) -> Callable:
    """query, key, value [B, S, H, D] -> out. `lengths` makes an int32 tensor of where sequences begin.

    Raises NotRun for a mask that FlashAttention-3 does not know."""
    causal = mask.name in ("causal", "causal_document")
    if mask.name in ("full", "causal"):
        return lambda *inputs: _out(module.flash_attn_func(*inputs, softmax_scale=scale, causal=causal))
    if mask.name == "sliding_window":
        window = (mask.window - 1, 0)
        return lambda *inputs: _out(module.flash_attn_func(*inputs, softmax_scale=scale, window_size=window))
    if mask.name in ("document", "causal_document"):
        starts = [0]
        for length in mask.documents * batch:
            starts.append(starts[-1] + length)
        begins, longest = lengths(starts), max(mask.documents)

        def attend(*inputs: Tensor) -> Tensor:
            rows = [x.reshape(-1, *x.shape[2:]) for x in inputs]
            out = module.flash_attn_varlen_func(
                *rows,
                cu_seqlens_q=begins,
                cu_seqlens_k=begins,
                max_seqlen_q=longest,
                max_seqlen_k=longest,
                softmax_scale=scale,
                causal=causal,
            )
            return _out(out).reshape(inputs[0].shape)

        return attend
    raise NotRun(f"FlashAttention-3 has no {mask.name} mask")


def _out(answer: Tensor | tuple) -> Tensor:
    """Some versions return the log-sum-exp as well."""
    return answer[0] if isinstance(answer, tuple) else answer
