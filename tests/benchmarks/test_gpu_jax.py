"""FlashAttention-3 through JAX as a peer, with dense attention in its place. Needs torch and JAX."""

from __future__ import annotations

import sys
import types
from typing import Any

import jax
import pytest
import torch

from benchmarks.gpu import flex, jax_flash, model_masks
from benchmarks.gpu.timing import Blocking, HostTimer
from tools.gpu_check.outcome import NotRun

jnp = jax.numpy


def dense(query: Any, key: Any, value: Any, seen: Any, scale: float) -> Any:
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * scale
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def visible(length: int, is_causal: bool, window_size: tuple[int, int]) -> Any:
    distance = jnp.arange(length)[:, None] - jnp.arange(length)[None]
    seen = distance >= 0 if is_causal else jnp.ones((length, length), bool)
    return seen & (distance <= window_size[0]) if window_size[0] >= 0 else seen


def flash_mha(q, k, v, softmax_scale=None, is_causal=False, window_size=(-1, -1)):
    assert type(softmax_scale) is float
    return dense(q, k, v, visible(q.shape[1], is_causal, window_size), softmax_scale)


def flash_mha_varlen(
    q, k, v, cu_seqlens_q, cu_seqlens_k=None, seqused_k=None, max_seqlen_q=-1, max_seqlen_k=-1, softmax_scale=None,
    is_causal=False, window_size=(-1, -1),
):  # fmt: skip
    document = jnp.searchsorted(cu_seqlens_q, jnp.arange(q.shape[0]), side="right")
    seen = (document[:, None] == document[None]) & visible(q.shape[0], is_causal, window_size)
    return dense(q[None], k[None], v[None], seen, softmax_scale)[0]


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.ModuleType("flash_attn3_jax")
    stand_in.flash_mha, stand_in.flash_mha_varlen = flash_mha, flash_mha_varlen
    monkeypatch.setitem(sys.modules, "flash_attn3_jax", stand_in)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def problem(head_dim: int = jax_flash.HEAD_DIM) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(2, 160, 2, head_dim, generator=generator) for name in ("query", "key", "value", "dout")}


@pytest.mark.parametrize("name", ["full", "causal", "sliding_window", "window_40", "document", "causal_document"])
def test_results_and_gradients_are_those_of_the_mask(name: str) -> None:
    mask, inputs = model_masks.mask_of(name, 160), problem()
    peer = jax_flash.peer(mask, inputs, 0.1)
    leaves = [inputs[name].clone().requires_grad_() for name in ("query", "key", "value")]
    function, index = flex.column_function(mask, torch.device("cpu")), torch.arange(160)
    seen = function(None, None, index[:, None], index[None]) if function else None
    heads_first = [leaf.transpose(1, 2) for leaf in leaves]
    attend = torch.nn.functional.scaled_dot_product_attention
    out = attend(*heads_first, attn_mask=seen, scale=0.1).transpose(1, 2)
    torch.testing.assert_close(peer.out, out.detach(), rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(peer.gradients(), torch.autograd.grad(out, leaves, inputs["dout"]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert isinstance(peer.forward, Blocking) and HostTimer().milliseconds(peer.forward) > 0


def test_what_the_package_lacks_is_not_run() -> None:
    with pytest.raises(NotRun, match="no share_question mask"):
        jax_flash.peer(model_masks.mask_of("share_question", 160), problem(), 0.1)
    with pytest.raises(NotRun, match="head_dim 128 only"):
        jax_flash.peer(model_masks.mask_of("full", 160), problem(64), 0.1)
