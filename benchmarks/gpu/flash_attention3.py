"""FlashAttention-3 (Shah et al., arXiv 2407.08608) as a peer, if one of its packages is installed.

It takes full and causal attention, sliding windows as `window_size`, and documents as sequence lengths. It has no call
for the other masks.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tools.gpu_check.outcome import NotRun

from .paper_masks import PaperMask

# The authors' package under two names, and fa3-fwd, which has the forward only.
MODULES = ("flash_attn_interface", "flash_attn_3.flash_attn_interface", "fa3_fwd_interface")
MODULES_4 = ("flash_attn.cute",)  # FlashAttention-4, whose functions take the same arguments
Tensor = Any


def attention(module: ModuleType, mask: PaperMask, batch: int, scale: float, lengths: Callable) -> Callable:
    """Function from query, key, value [B, S, H, D] to out.

    Args:
        lengths: makes an int32 tensor of cumulative sequence lengths from a list.

    Raises:
        NotRun: FlashAttention-3 does not support the mask.
    """
    causal = mask.form in ("causal", "causal_document")
    if mask.form in ("full", "causal"):
        return lambda *inputs: _out(module.flash_attn_func(*inputs, softmax_scale=scale, causal=causal))
    if mask.form == "sliding_window":
        window = (mask.window - 1, 0)
        return lambda *inputs: _out(module.flash_attn_func(*inputs, softmax_scale=scale, window_size=window))
    if mask.form in ("document", "causal_document"):
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
    """Output alone; some versions return the log-sum-exp too."""
    return answer[0] if isinstance(answer, tuple) else answer
