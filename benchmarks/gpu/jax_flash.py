"""FlashAttention-3 (Shah et al., arXiv 2407.08608), forward and backward, through flash-attn3-jax as a peer.

Its wheels hold head_dim 128. Arrays pass between torch and JAX by DLPack without a copy. JAX works on streams of its
own, so every call waits for its results.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from tools.gpu_check.outcome import NotRun

from .packages import import_first
from .paper_masks import PaperMask
from .peer import INPUTS, Peer, Tensors
from .timing import Blocking

HEAD_DIM = 128


def modules() -> tuple[Any, Any]:
    """Modules jax and flash_attn3_jax. Raises NotRun where one is absent, or JAX sees no GPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory to torch
    jax = import_first("jax")
    package = import_first("flash_attn3_jax")
    if jax.default_backend() != "gpu":
        raise NotRun(f"JAX sees no GPU: its backend is {jax.default_backend()}")
    return jax, package


def peer(mask: PaperMask, inputs: Tensors, scale: float) -> Peer:
    """Raises NotRun where the package is absent or has no call for the problem."""
    query = inputs["query"]
    if {inputs[name].shape[-1] for name in INPUTS} != {HEAD_DIM}:
        raise NotRun(f"the wheels of flash-attn3-jax hold head_dim {HEAD_DIM} only")
    jax, package = modules()
    attend = jax.jit(attention(jax, package, mask, query.shape[0], scale))
    arrays = [jax.dlpack.from_dlpack(inputs[name].detach().contiguous()) for name in (*INPUTS, "dout")]
    *leaves, dout = arrays
    out, pull = jax.vjp(attend, *leaves)
    pull_back = jax.jit(lambda residuals, gradient: residuals(gradient))

    def backward() -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_dlpack(gradient) for gradient in jax.block_until_ready(pull_back(pull, dout)))

    def forward() -> Any:
        return jax.block_until_ready(attend(*leaves))

    return Peer(torch.from_dlpack(jax.block_until_ready(out)), Blocking(forward), Blocking(backward))


def attention(jax: Any, package: Any, mask: PaperMask, batch: int, scale: float) -> Callable[..., Any]:
    """Function from JAX arrays query, key, value [B, S, H, D] to out."""
    options: dict[str, Any] = {"softmax_scale": float(scale), "is_causal": mask.form in ("causal", "causal_document")}
    if mask.form == "sliding_window":
        options |= {"is_causal": True, "window_size": (mask.window - 1, 0)}
    if mask.form in ("full", "causal", "sliding_window"):
        return lambda query, key, value: package.flash_mha(query, key, value, **options)
    if mask.form not in ("document", "causal_document"):
        raise NotRun(f"FlashAttention-3 has no {mask.name} mask")
    starts = [0]
    for length in mask.documents * batch:
        starts.append(starts[-1] + length)
    longest = max(mask.documents)
    options |= {"max_seqlen_q": longest, "max_seqlen_k": longest}

    def attend(query: Any, key: Any, value: Any) -> Any:
        begins = jax.numpy.array(starts, dtype=jax.numpy.int32)
        rows = [x.reshape(-1, *x.shape[2:]) for x in (query, key, value)]
        return package.flash_mha_varlen(*rows, begins, **options).reshape(query.shape)

    return attend
