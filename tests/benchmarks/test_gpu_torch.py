"""benchmarks/gpu with torch, on a stand-in for a GPU: every peer, row and timer. Needs torch: `make test-gpu-check`."""

from __future__ import annotations

import importlib.machinery
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import fake_cuda
from support.emulated import emulated_library
from torch.nn.attention import flex_attention as torch_flex

from benchmarks.gpu import bench, bench_rows, flex, jax_flash, model_masks, paper_masks, peers, row_intervals, timing
from tools.gpu_check.outcome import FAILED, NOT_RUN, PASSED, NotRun, run_case
from tools.gpu_check.plan import Settings

ROW = bench.Row("causal_document", 128, 128, 2, 1, 1)
FORMS = (*model_masks.CUDNN_FORMS, "window_40")


def visible_pairs(mask: paper_masks.PaperMask, device: str = "cpu") -> torch.Tensor:
    """Dense mask [S, S], rows of queries."""
    row, seen = torch.arange(mask.seqlen)[:, None], torch.ones(mask.seqlen, mask.seqlen, dtype=torch.bool)
    for start, end in mask.hidden_intervals(torch.arange(mask.seqlen).numpy()):
        seen &= ~((torch.from_numpy(start.copy()) <= row) & (row < torch.from_numpy(end.copy())))
    return seen.to(device)


def dense_attention(inputs: Any, seen: torch.Tensor | None, scale: float) -> torch.Tensor:
    """Attention of [B, S, H, D] with a mask [S, S], differentiable."""
    query, key, value = (x.transpose(1, 2) for x in inputs)
    group = query.shape[1] // key.shape[1]
    attend = torch.nn.functional.scaled_dot_product_attention
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    return attend(query, key, value, attn_mask=seen, scale=scale).transpose(1, 2)


# --- Packages of the peers


def flash_attn_func(q, k, v, softmax_scale=None, causal=False, window_size=(None, None)):
    return dense_attention((q, k, v), _seen(q.shape[1], causal, window_size), softmax_scale), "lse"


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    softmax_scale=None,
    causal=False,
):
    document = torch.bucketize(torch.arange(len(q)), cu_seqlens_q.cpu(), right=True)
    assert max_seqlen_q == max_seqlen_k and cu_seqlens_k is cu_seqlens_q
    seen = (document[:, None] == document[None]).to(q.device)
    seen &= _seen(len(q), causal, (None, None))
    return dense_attention([x[None] for x in (q, k, v)], seen, softmax_scale)[0]


def _seen(length: int, causal: bool, window: tuple[int | None, int | None]) -> torch.Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    seen = distance >= 0 if causal or window[1] == 0 else torch.ones_like(distance, dtype=torch.bool)
    return (seen & (distance <= window[0]) if window[0] is not None else seen).to("cuda")


def create_mask_plan(mask_func, q, k, v, *, pack_gqa=None, build_backward=None):
    assert mask_func.is_cuda and mask_func.is_contiguous() and mask_func.dtype == torch.int32
    assert mask_func.dim() == 3 and mask_func.shape[1] % 2 == 1 and mask_func.shape[2] == q.shape[0] * q.shape[1]
    return seen_from(mask_func[0, :, : q.shape[1]].cpu(), k.shape[1]).to("cuda")


def seen_from(endpoints: torch.Tensor, seqlen: int) -> torch.Tensor:
    """Dense mask of the endpoints [n, S] of rows."""
    key = torch.arange(seqlen)[None]
    seen = key < endpoints[0][:, None]
    for begin, end in zip(endpoints[1::2], endpoints[2::2], strict=True):
        seen |= (begin[:, None] <= key) & (key < end[:, None])
    return seen


def flex_attn_func(q, k, v, *, mask_plan, softmax_scale=None, deterministic=False, return_lse=False):
    return dense_attention((q, k, v), mask_plan, softmax_scale)


def fake_flex_attention(*arguments: Any, **options: Any) -> torch.Tensor:
    given = inspect.signature(torch_flex.flex_attention).bind(*arguments, **options).arguments
    seqlen = given["query"].shape[2]
    seen = None
    if given["block_mask"] is not None:
        index = torch.arange(seqlen, device="cuda")
        seen = given["block_mask"].mask_mod(None, None, index[:, None], index[None])
    inputs = [given[name].transpose(1, 2) for name in ("query", "key", "value")]
    return dense_attention(inputs, seen, given["scale"]).transpose(1, 2)


def module(name: str, *functions: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    for function in functions:
        setattr(made, function.__name__, function)
    return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda.FakeGpu]:
    packages = [
        module("fa3_fwd_interface", flash_attn_func, flash_attn_varlen_func),
        module("flash_attn"),
        module("flash_attn.cute", flash_attn_func, flash_attn_varlen_func),
        module("cudnn"),
        module("cudnn.flex_attention", create_mask_plan, flex_attn_func),
    ]
    for package in packages:
        monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setattr(flex, "flex_attention", fake_flex_attention)
    monkeypatch.setattr(bench, "_MATMUL_SIZE", 64)
    monkeypatch.setattr(bench, "_COPY_BYTES", 1 << 12)
    monkeypatch.setattr(bench, "PEER_TURNS", {"rounds": 1, "warm_up": 0})
    monkeypatch.setattr(bench, "_KERNEL_REPETITIONS", 1)
    monkeypatch.setattr(timing, "FLUSH_BYTES", 1 << 12)
    monkeypatch.setattr(timing.take_turns, "__defaults__", (1, 0))
    with fake_cuda.fake_gpu(emulated_library()) as made:
        yield made


@pytest.fixture
def settings(gpu: fake_cuda.FakeGpu, tmp_path: Path) -> Settings:
    return Settings("bench-peers", emulated_library(), tmp_path)


# --- Tests


def test_every_peer_and_our_kernels_agree_and_are_measured(settings: Settings) -> None:
    listed = list(bench_rows.measured(settings, [ROW], bench_rows.ALL_PEERS))
    results = {result.name: result for result in map(run_case, listed)}
    assert {result.outcome for result in results.values()} == {PASSED}, results
    figures = results[f"ours, {ROW.name}"].figures
    measured = {"flex", "fa3", "fa4", "cudnn_flex", "flex_flash"}
    assert set(figures["absent"]) == {"sdpa_flash", "sdpa_cudnn", "fa3_jax"}
    assert measured | {"ours", "ours_80"} == set(figures["forward"]["contestants"])
    assert measured | {"ours", "ours_80", "ours_deterministic"} == set(figures["backward"]["contestants"])
    assert set(figures["kernels"]["forward"]) == {"forward", "PrepareColumns of forward"}
    assert results["copy"].figures["bytes"] == 1 << 12


def test_torch_attention_is_measured_where_it_has_the_mask(settings: Settings) -> None:
    row = bench.Row("causal", 128, 64, 2, 1, 1)
    measured = bench.Bench(settings)
    for name in ("sdpa_flash", "sdpa_cudnn", "flex_idiomatic"):
        assert measured.measure_peer(row, name)["absent"] == {}
    assert set(measured.measure_ours(row)["absent"]) == set()


def test_a_wrong_peer_is_reported(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    right = peers.PEERS["fa4"]

    def wrong(*arguments: Any) -> Any:
        peer = right(*arguments)
        peer.out[0, 3] += 1.0
        return peer

    monkeypatch.setitem(peers.PEERS, "fa4", wrong)
    listed = [case for case in bench_rows.measured(settings, [ROW], ["fa4"]) if not case.name.startswith("matmul")]
    results = list(map(run_case, listed))
    assert results[-1].outcome == FAILED and "fa4: relative difference" in results[-1].detail


def test_the_parts_of_one_launch_are_timed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_rows, "LONG", 128)
    monkeypatch.setattr(bench_rows, "paper_row", lambda mask, seqlen, dim: bench.Row(mask, 128, 64, 1, 1, 1))
    by_part = {part: Settings(part, settings.library, settings.out) for part in ("bench", "bench-masks")}
    cases = {case.name: case for part in by_part.values() for case in bench_rows.measured(part, [], [])}
    timed = [name for name in cases if name.startswith(("mask preparation", "kernels of"))]
    figures = [run_case(cases[name]).figures for name in timed]
    assert len(timed) == 3 and all(figure["kernels"] for figure in figures), figures
    assert figures[0]["preparation_microseconds"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", [*paper_masks.NAMES, *FORMS])
def test_rows_of_a_mask_as_intervals_are_the_mask(name: str) -> None:
    mask = model_masks.mask_of(name, 700)
    try:
        endpoints = row_intervals.row_endpoints(mask, torch.device("cpu"))
    except NotRun as refused:
        assert name == "random_eviction" and "endpoints per row" in str(refused)
        return
    assert endpoints.dtype == torch.int32 and endpoints.shape[0] % 2 == 1
    assert endpoints.shape[0] == 1 or bool((endpoints[1:] >= endpoints[:-1]).all())
    assert torch.equal(seen_from(endpoints, 700), visible_pairs(mask))
    assert endpoints.shape[0] <= {"full": 1, "causal": 1, "causal_document": 3}.get(name, 31)


@pytest.mark.parametrize("name", [*paper_masks.NAMES, *FORMS])
def test_mask_functions_are_the_mask(name: str) -> None:
    mask = model_masks.mask_of(name, 300)
    index = torch.arange(300)
    functions = [flex.column_function(mask, torch.device("cpu"))]
    if name in paper_masks.NAMES:
        functions.append(flex.idiomatic_function(mask, torch.device("cpu")))
    for function in functions:
        if function is not None:
            assert torch.equal(function(None, None, index[:, None], index[None]), visible_pairs(mask))


class FakeJax:
    """JAX whose arrays are torch's tensors."""

    jit = staticmethod(lambda function: function)
    block_until_ready = staticmethod(lambda arrays: arrays)
    dlpack = types.SimpleNamespace(from_dlpack=lambda tensor: tensor.clone())
    numpy = types.SimpleNamespace(array=lambda values, dtype: torch.tensor(values, device="cuda"), int32=torch.int32)

    @staticmethod
    def default_backend() -> str:
        return "gpu"

    @staticmethod
    def vjp(function: Any, *arrays: torch.Tensor) -> tuple[torch.Tensor, Any]:
        leaves = [array.clone().requires_grad_() for array in arrays]
        out = function(*leaves)
        return out.detach(), lambda dout: torch.autograd.grad(out, leaves, dout, retain_graph=True)


def flash_mha(q, k, v, softmax_scale=None, is_causal=False, window_size=(-1, -1)):
    left = window_size[0] if window_size[0] >= 0 else None
    return dense_attention((q, k, v), _seen(q.shape[1], is_causal, (left, None)), softmax_scale)


def flash_mha_varlen(q, k, v, cu_seqlens_q, max_seqlen_q=-1, max_seqlen_k=-1, softmax_scale=None, is_causal=False):
    lengths = {"max_seqlen_q": max_seqlen_q, "max_seqlen_k": max_seqlen_k}
    options = lengths | {"softmax_scale": softmax_scale, "causal": is_causal}
    return flash_attn_varlen_func(q, k, v, cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_q, **options)


@pytest.mark.parametrize("name", ["causal", "window_40", "causal_document"])
def test_a_peer_through_jax_is_timed_by_the_wall_clock(settings: Settings, monkeypatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "jax", FakeJax)
    monkeypatch.setitem(sys.modules, "flash_attn3_jax", module("flash_attn3_jax", flash_mha, flash_mha_varlen))
    monkeypatch.setattr(torch, "from_dlpack", lambda array: array)
    measured = bench.Bench(settings)
    row = bench.Row(name, 128, 128, 1, 1, 1)
    alone = measured.measure_peer(row, "fa3_jax")
    assert alone["absent"] == {} and set(alone["backward"]["contestants"]) == {"fa3_jax"}, alone
    assert "wrong" not in measured.measure_ours(row)
    for mask, head_dim, reason in (("causal", 64, "head_dim 128"), ("share_question", 128, "no share_question mask")):
        refused = measured.measure_peer(bench.Row(mask, 128, head_dim, 1, 1, 1), "fa3_jax")
        assert reason in refused["absent"]["fa3_jax"]


def test_a_package_without_a_backward_is_measured_forward(settings: Settings, monkeypatch) -> None:
    def forward_only(*arguments: Any, **options: Any) -> torch.Tensor:
        return flash_attn_varlen_func(*arguments, **options).detach()

    monkeypatch.setattr(sys.modules["fa3_fwd_interface"], "flash_attn_varlen_func", forward_only)
    figures = bench.Bench(settings).measure_peer(ROW, "fa3")
    assert set(figures) >= {"forward"} and "backward" not in figures
    assert "RuntimeError" in figures["absent"]["fa3 backward"]


def test_a_package_that_is_absent_is_named(gpu: fake_cuda.FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setitem(sys.modules, "cudnn.flex_attention", None)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.delitem(sys.modules, "flash_attn.cute")
    measured = bench.Bench(Settings("bench-peers", emulated_library(), Path()))
    for name, reason in (("fa3_jax", "jax"), ("cudnn_flex", "cudnn.flex_attention"), ("flex_flash", "flash_attn.cute")):
        assert "NotRun: cannot be imported: " in measured.measure_peer(ROW, name)["absent"][name]
        assert reason in measured.measure_peer(ROW, name)["absent"][name]
    monkeypatch.setitem(sys.modules, "jax", types.SimpleNamespace(default_backend=lambda: "cpu"))
    monkeypatch.setitem(sys.modules, "flash_attn3_jax", types.ModuleType("flash_attn3_jax"))
    with pytest.raises(NotRun, match="JAX sees no GPU: its backend is cpu"):
        jax_flash.modules()


def test_masks_without_columns_are_not_run(tmp_path: Path) -> None:
    part = Settings("bench-forms", emulated_library(), tmp_path, emulated=True)
    results = [run_case(case) for case in bench_rows.forms(part) if "flex_longformer" in case.name]
    assert [result.outcome for result in results] == [NOT_RUN] * 2  # ours, and ours in turn
