"""Measurement in benchmarks/gpu: order of the calls, FlashAttention-3 as a peer, and time of the rows."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.repository import REPOSITORY

from benchmarks.gpu import bench, bench_rows, flash_attention3, model_masks, paper_masks, timing
from benchmarks.gpu.packages import import_first
from tools.gpu_check import ladder, plan
from tools.gpu_check.outcome import FAILED, Case, DeviceLost, NotRun, run_case


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
    interface = import_first(*flash_attention3.MODULES)
    inputs = [np.zeros((2, 512, 2, 8), np.float32)] * 3
    attend = flash_attention3.attention(interface, described, 2, 0.5, np.array)
    assert attend(*inputs).shape == (2, 512, 2, 8)
    begins = interface.called.pop("cu_seqlens_q", None)
    if begins is not None:
        np.testing.assert_array_equal(np.diff(begins), described.documents * 2)
        assert interface.called.pop("max_seqlen_k") == interface.called.pop("max_seqlen_q") == max(described.documents)
        assert interface.called.pop("cu_seqlens_k") is begins
    assert interface.called == called | {"softmax_scale": 0.5}


def test_masks_that_flash_attention3_lacks_are_not_run() -> None:
    with pytest.raises(NotRun, match="no share_question mask"):
        flash_attention3.attention(FakeInterface("fake"), paper_masks.paper_mask("share_question", 512), 1, 1.0, list)


# TFLOP/s that each is at least good for on an H200, forward and backward; head_dim 64 at 0.6 of them.
SLOWEST = {"ours": (500, 400), "ours_80": (280, 220), "sdpa_flash": (330, 280), "sdpa_cudnn": (480, 380)}
SLOWEST["ours_deterministic"] = (500, 370)  # its forward is not measured, which the estimate leaves in
SLOWEST |= {"flex": (230, 150), "flex_idiomatic": (230, 150), "fa3": (480, 380), "fa4": (480, 380)}
SLOWEST |= {"fa3_jax": (480, 380), "cudnn_flex": (300, 200), "flex_flash": (400, 300)}
OURS = ["ours", "ours_deterministic", bench.OLDER_KERNELS]
# Seconds of the first call in a row, on average, for those that compile, and of the comparison of results.
FIRST_CALLS = {"flex": 3, "flex_idiomatic": 3, "fa3_jax": 1, "fa4": 1, "cudnn_flex": 8, "flex_flash": 10}
COMPARISON = 2.0
PARTS = [name for name in plan.PARTS if name.startswith("bench")]
SUBSETS = {"bench-first": "first", "bench-masks": "bench"}


@pytest.mark.parametrize("part", PARTS)
def test_measured_rows_fit_their_time(part: str, tmp_path: Path, monkeypatch) -> None:
    """The order is that in which they matter, so that a slow machine loses the last ones."""
    seconds = []

    def measured(settings: plan.Settings, rows: list, common: list[str], of_masks: tuple[str, ...] = ()) -> list[Case]:
        for row in rows:
            peers = [*common, *(of_masks if row.mask in bench_rows.SPARSE_MASKS else ())]
            if row.mask in model_masks.WITHOUT_COLUMNS:
                continue
            shorter = min(row.seqlen, 32768)  # at least as dense, and quickly counted
            density = model_masks.mask_of(row.mask, shorter).pairs / shorter**2
            pairs = density * row.seqlen**2 * row.batch * row.heads
            slower = 0.6 if row.head_dim == 64 else 1.0
            taken = 0.0
            for rates, rounds in (
                (OURS + peers, timing.WARM_UP + timing.ROUNDS),
                ([*peers, bench.DETERMINISTIC], sum(bench.PEER_TURNS.values())),
            ):
                work = sum(4 / SLOWEST[name][0] + 10 / SLOWEST[name][1] for name in rates)
                launches = len(rates) * 2 * rounds * 2e-3  # the cache is overwritten, the GPU waits for the host
                taken += work * row.head_dim * pairs / 1e12 / slower * rounds + launches
            seconds.append(taken + COMPARISON + sum(FIRST_CALLS.get(name, 0) for name in peers))
        return []

    monkeypatch.setattr(bench_rows, "measured", measured)
    getattr(bench_rows, plan.PARTS[part].function)(plan.Settings(part, tmp_path, tmp_path))
    budget = plan.SUBSETS[SUBSETS.get(part, part)][part]
    assert sum(seconds) < budget, f"{sum(seconds):.0f} of {budget} s in {len(seconds)} rows"


class Kept(types.SimpleNamespace):
    """Stand-in for a peer or a TorchCall."""

    no_backward = ""
    outputs: dict = {}

    def forward(self) -> None: ...

    def backward(self) -> None: ...

    def both(self) -> None: ...


@pytest.fixture
def stubbed_bench(monkeypatch: pytest.MonkeyPatch) -> bench.Bench:
    """A Bench without torch: one peer, which agrees with our results, and one that is absent."""
    torch_call = types.ModuleType("support.torch_call")
    torch_call.TorchCall = lambda *arguments, **options: Kept()
    torch_call.random_inputs = lambda problem, device: {}
    torch_call.synchronize = lambda device: None
    monkeypatch.setitem(sys.modules, "support.torch_call", torch_call)
    stub = object.__new__(bench.Bench)
    stub.device, stub.rehearsal, stub.kernels, stub._contest = "cpu", True, None, None
    stub.timer, stub.turns, stub.sampler = timing.HostTimer(), {"rounds": 2, "warm_up": 1}, bench.LoadSampler()
    stub.__dict__["matmul_tflops"] = 800.0

    def absent(*arguments: object) -> Kept:
        raise NotRun("cannot be imported")

    def lost(*arguments: object) -> Kept:
        raise DeviceLost("700")

    peers = types.ModuleType("benchmarks.gpu.peers")
    peers.PEERS = {"sdpa_flash": lambda *arguments: Kept(), "absent": absent, "lost": lost}
    monkeypatch.setitem(sys.modules, "benchmarks.gpu.peers", peers)
    monkeypatch.setattr(stub, "_difference", lambda *arguments: "", raising=False)
    return stub


ROW = bench.toy_row("causal")


def test_peers_are_measured_before_ours_and_in_turns_with_them(stubbed_bench: bench.Bench) -> None:
    alone = stubbed_bench.measure_peer(ROW, "sdpa_flash")
    assert set(alone["forward"]["contestants"]) == set(alone["backward"]["contestants"]) == {"sdpa_flash"}
    assert alone["absent"] == {}
    absent = {"absent": "NotRun: cannot be imported"}
    assert stubbed_bench.measure_peer(ROW, "absent") == {"peers_of": ROW.name, "absent": absent}
    figures = stubbed_bench.measure_ours(ROW)
    contestants = {"ours", "sdpa_flash"}
    assert set(figures["forward"]["contestants"]) == set(figures["backward"]["contestants"]) == contestants
    assert figures["absent"] == absent


def test_a_deterministic_backward_joins_ours_only_once_it_has_run_alone(stubbed_bench: bench.Bench) -> None:
    alone = stubbed_bench.measure_deterministic(ROW)
    assert alone["peers_of"] == ROW.name and set(alone["backward"]["contestants"]) == {bench.DETERMINISTIC}
    figures = stubbed_bench.measure_ours(ROW)
    assert set(figures["forward"]["contestants"]) == {"ours"}
    assert set(figures["backward"]["contestants"]) == {"ours", bench.DETERMINISTIC}


def test_a_profiler_that_fails_costs_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(call: object, repetitions: int) -> None:
        raise RuntimeError("CUPTI: insufficient privileges")

    monkeypatch.setattr(bench, "kernel_microseconds", fail)
    assert bench.Bench._kernels_of(lambda: None) == "RuntimeError: CUPTI: insufficient privileges"


def test_figures_of_a_wrong_result_are_kept_and_marked(stubbed_bench: bench.Bench, monkeypatch) -> None:
    stubbed_bench.measure_peer(ROW, "sdpa_flash")
    wrong = "sdpa_flash: relative difference 5.00e-01 in forward"
    monkeypatch.setattr(stubbed_bench, "_difference", lambda *arguments: wrong)
    result = run_case(Case("ours", lambda: stubbed_bench.measure_ours(ROW)))
    assert result.outcome == FAILED and wrong in result.detail
    assert "WRONG" in result.figures["summary"]["lines"][0]
    assert result.figures["wrong"] == [wrong] and "ours" in result.figures["forward"]["contestants"]


def test_a_peer_that_loses_the_context_fails_its_case(stubbed_bench: bench.Bench) -> None:
    with pytest.raises(DeviceLost):
        stubbed_bench.measure_peer(ROW, "lost")


def test_the_peers_of_a_row_come_right_before_it(tmp_path: Path) -> None:
    names = [case.name for case in bench_rows.peers(plan.Settings("bench-peers", tmp_path, tmp_path))]
    ours = [index for index, name in enumerate(names) if name.startswith("ours, ")]
    assert len(ours) == 3
    for index in ours:
        row = names[index].removeprefix("ours, ")
        expected = [*bench_rows.ALL_PEERS, bench.DETERMINISTIC]
        assert names[index - len(expected) : index] == [f"{name}, {row}" for name in expected]


def test_the_first_rows_compile_flex_for_masks_alone(tmp_path: Path) -> None:
    names = [case.name for case in bench_rows.first(plan.Settings("bench-first", tmp_path, tmp_path))]
    flex = [name for name in names if name.startswith("flex, ")]
    assert flex and all("causal_document" in name for name in flex)
    assert names.index("sdpa_flash, full S=8192 D=128 B=4 H=32:32") < names.index(flex[0])


def test_our_kernels_are_not_timed_where_the_ladder_quarantined_them(tmp_path: Path) -> None:
    listed = bench_rows.first(plan.Settings("bench-first", tmp_path, tmp_path))
    ours = next(case for case in listed if case.name.startswith("ours, full"))
    assert ours.after == ("9.0 forward D128,128", "9.0 backward D128,128")
    in_turn = next(case for case in listed if case.name.startswith(f"{bench.DETERMINISTIC}, full"))
    rows = {case.row for case in ladder.cases(plan.Settings("ladder", tmp_path, tmp_path))}
    assert {*ours.after, in_turn.row} <= rows and in_turn.row not in ours.after


def test_every_part_has_rows_to_rehearse(tmp_path: Path) -> None:
    for part in PARTS:
        if part in plan.EMULATED_PARTS:
            listed = getattr(bench_rows, plan.PARTS[part].function)(
                plan.Settings(part, tmp_path, tmp_path, emulated=True)
            )
            assert any(case.name.startswith("ours, ") for case in listed), part


def test_single_kernels_are_not_timed_in_a_rehearsal(stubbed_bench: bench.Bench) -> None:
    with pytest.raises(NotRun, match="on a GPU only"):
        stubbed_bench.kernel_times(ROW, "forward")


def test_the_kernels_of_the_preparation_are_those_of_the_sources() -> None:
    source = (REPOSITORY / "csrc" / "cuda" / "common" / "prepare_kernels.h").read_text()
    assert set(re.findall(r"PFM_KERNEL_BOUNDS\(.*\) void (\w+)\(", source)) == set(bench_rows.PREPARATION)
