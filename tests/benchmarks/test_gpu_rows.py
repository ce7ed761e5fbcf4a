"""Measurement in benchmarks/gpu: order of the calls, FlashAttention-3 as a peer, and time of the rows."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import bench, bench_rows, flash_attention3, paper_masks, timing
from tools.gpu_check import plan
from tools.gpu_check.outcome import Case, NotRun


class FakeTimer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def milliseconds(self, call: Callable[[], str]) -> float:
        self.calls.append(call())
        return {"ours": 2.0, "peer": 4.0}[self.calls[-1]] + len(self.calls) / 1e6


def test_contestants_take_turns() -> None:
    timer = FakeTimer()
    times = timing.take_turns(timer, {"ours": lambda: "ours", "peer": lambda: "peer"}, rounds=4, warm_up=2)
    assert timer.calls[:4] == ["ours", "peer", "peer", "ours"]
    assert {name: len(taken) for name, taken in times.items()} == {"ours": 4, "peer": 4}
    assert timing.statistics_of([3.0, 1.0, 2.0], flop=4e9)["tflops"] == pytest.approx(2.0)


class FakeInterface(types.ModuleType):
    """Stand-in for the package, which records its options."""

    def flash_attn_func(self, *inputs: np.ndarray, **options: object) -> tuple[np.ndarray, str]:
        self.called = options
        return inputs[0], "lse"

    def flash_attn_varlen_func(self, *inputs: np.ndarray, **options: object) -> np.ndarray:
        self.called = options | {"shape": inputs[0].shape}
        return inputs[0]


@pytest.mark.parametrize(
    ("mask", "called"),
    [
        ("full", {"causal": False}),
        ("causal", {"causal": True}),
        ("sliding_window", {"window_size": (31, 0)}),
        ("document", {"causal": False, "shape": (1024, 2, 8)}),
        ("causal_document", {"causal": True, "shape": (1024, 2, 8)}),
    ],
)
def test_masks_as_flash_attention3_takes_them(mask: str, called: dict, monkeypatch) -> None:
    name = flash_attention3.MODULES[-1]
    for module in flash_attention3.MODULES:
        monkeypatch.setitem(sys.modules, module, FakeInterface(name) if module == name else None)
    described = paper_masks.paper_mask(mask, 512)
    interface = flash_attention3.interface()
    inputs = [np.zeros((2, 512, 2, 8), np.float32)] * 3
    attend = flash_attention3.attention(interface, described, 2, 0.5, np.array)
    assert attend(*inputs).shape == (2, 512, 2, 8)
    begins = interface.called.pop("cu_seqlens_q", None)
    if begins is not None:
        np.testing.assert_array_equal(np.diff(begins), described.documents * 2)
        assert interface.called.pop("max_seqlen_k") == interface.called.pop("max_seqlen_q") == max(described.documents)
        assert interface.called.pop("cu_seqlens_k") is begins
    assert interface.called == called | {"softmax_scale": 0.5}


def test_flash_attention3_that_is_absent_or_lacks_a_mask_is_not_run(monkeypatch) -> None:
    for module in flash_attention3.MODULES:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotRun, match="absent: none of flash_attn_interface"):
        flash_attention3.interface()
    with pytest.raises(NotRun, match="no share_question mask"):
        flash_attention3.attention(FakeInterface("fake"), paper_masks.paper_mask("share_question", 512), 1, 1.0, list)


# TFLOP/s that each is at least good for on an H200, forward and backward; head_dim 64 at 0.6 of them.
SLOWEST = {"ours": (500, 400), "ours_80": (280, 220), "sdpa_flash": (330, 280), "sdpa_cudnn": (480, 380)}
SLOWEST |= {"flex": (230, 150), "flex_idiomatic": (230, 150), "fa3": (480, 380)}
FIRST_CALLS = 6.0  # seconds per row: compiling FlexAttention, comparing


@pytest.mark.parametrize("part", ["bench", "bench-masks", "bench-flex", "bench-long"])
def test_measured_rows_fit_their_time(part: str, tmp_path: Path, monkeypatch) -> None:
    """The order is that in which they matter, so that a slow machine loses the last ones."""
    seconds = []

    def measured(settings: plan.Settings, rows: list, peers: list[str]) -> list[Case]:
        for row in rows:
            shorter = min(row.seqlen, 32768)  # about as dense, and quickly counted
            density = paper_masks.paper_mask(row.mask, shorter).pairs / shorter**2
            pairs = density * row.seqlen**2 * row.batch * row.heads
            rates = [SLOWEST[name] for name in ("ours", bench.OLDER_KERNELS, *peers)]
            slower = 0.6 if row.head_dim == 64 else 1.0
            work = sum(4 / forward + 10 / backward for forward, backward in rates)
            rounds = timing.WARM_UP + timing.ROUNDS
            launches = len(rates) * 2 * rounds * 1e-3  # the cache is overwritten, the GPU waits for the host
            seconds.append(work * row.head_dim * pairs / 1e12 / slower * rounds + launches + FIRST_CALLS)
        return []

    monkeypatch.setattr(bench_rows, "measured", measured)
    getattr(bench_rows, plan.PARTS[part].function)(plan.Settings(part, tmp_path, tmp_path))
    budget = plan.SUBSETS[part if part in plan.SUBSETS else "bench"][part]
    assert sum(seconds) < budget, f"{sum(seconds):.0f} of {budget} s in {len(seconds)} rows"
