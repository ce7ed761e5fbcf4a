"""tools/gpu_check without a GPU: what it chooses, records, reports, and that a wrong result or a crash is a failure."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import mask_samples
from support.call import Call
from support.library import Kernels
from support.problem import Problem
from support.specification import REPOSITORY

if str(REPOSITORY) not in sys.path:
    sys.path.append(str(REPOSITORY))

from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check import (
    bench,
    bench_rows,
    build,
    cases,
    device,
    flash_attention3,
    gates,
    goals,
    grid,
    paper_masks,
    plan,
    profile,
    report,
    runner,
    sanitize,
    table,
    timing,
)
from tools.gpu_check.outcome import (
    FAILED,
    INCOMPLETE,
    NOT_RUN,
    PASSED,
    Case,
    DeviceLost,
    Journal,
    NotRun,
    Result,
    outcome_of,
    work_through,
)

CHOICE = {
    "kind": "causal_document",
    "size": (63, 65),
    "heads": (4, 2, 1),
    "dropout": 0.1,
    "sink": True,
    "dims": (40, 64),
}


# --- What is run


def test_every_subset_builds_first_and_fits_into_ten_minutes() -> None:
    for subset in plan.SUBSETS:
        chosen = plan.choose([subset], emulated=False)
        assert next(iter(chosen)) == "build"
        # The first build of all takes its own time; later ones find their objects.
        assert subset == "all" or sum(chosen.values()) - chosen["build"] <= 560, subset
    assert set(plan.choose(["all"], emulated=False)) == set(plan.PARTS)
    assert set(plan.choose(["test", "bench"], emulated=False)) == {
        "build",
        "test",
        "test-large",
        "bench",
        "bench-masks",
    }


def test_unknown_subsets_and_those_that_need_a_gpu_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in ((["tests"], "unknown subset 'tests'"), (["--emulated", "sanitize"], "needs a GPU")):
        with pytest.raises(SystemExit) as refused:
            gpu_check.main(arguments)
        assert refused.value.code == 2
        assert says in capsys.readouterr().err


def test_every_function_of_a_part_lists_cases_with_names_of_their_own(tmp_path: Path) -> None:
    for part in plan.PARTS.values():
        module = __import__(f"tools.gpu_check.{part.module}", fromlist=[part.function])
        names = [case.name for case in getattr(module, part.function)(plan.Settings(part.name, tmp_path, tmp_path))]
        assert names and len(set(names)) == len(names), part


def test_the_grid_holds_every_mask_with_every_feature() -> None:
    rows = cases.grid()
    assert len(rows) < 400
    for name, options in cases.CHOICES.items():
        for other, others in cases.CHOICES.items():
            if name < other:
                found = {(repr(row[name]), repr(row[other])) for row in rows}
                assert found == {(repr(a), repr(b)) for a in options for b in others}, (name, other)
    assert {row["kind"] for row in rows} == set(mask_samples.kinds())


def test_the_same_row_gives_the_same_problem() -> None:
    first, second = cases.problem_of(CHOICE), cases.problem_of(CHOICE)
    assert str(first) == str(second)
    np.testing.assert_array_equal(first.startend, second.startend)
    np.testing.assert_array_equal(first.inputs["query"], second.inputs["query"])


# --- What becomes of a case


def failing(error: Exception) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def test_outcomes_of_cases(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    listed = [
        Case("right", lambda: {"pairs": 3}),
        Case("wrong", failing(AssertionError("out: error 1.0"))),
        Case("absent", failing(NotRun("no tool"))),
    ]
    work_through(listed, journal, time.monotonic() + 60)
    assert [result.outcome for result in journal.results] == [PASSED, FAILED, NOT_RUN]
    assert journal.results[0].figures == {"pairs": 3}
    assert "out: error 1.0" in journal.results[1].detail
    assert outcome_of(journal.results) == FAILED
    assert outcome_of([journal.results[0], journal.results[2]]) == INCOMPLETE
    assert outcome_of(journal.results[:1]) == PASSED
    assert outcome_of(journal.results[2:]) == NOT_RUN


def test_what_does_not_fit_is_not_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    work_through([Case("late", failing(AssertionError("was run")))], journal, time.monotonic() - 1)
    assert [(result.outcome, result.detail) for result in journal.results] == [(NOT_RUN, "no time was left")]


def test_a_lost_device_ends_the_process_after_it_was_written_down(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    listed = [Case("first", failing(DeviceLost("700"))), Case("second", lambda: None)]
    with pytest.raises(DeviceLost):
        work_through(listed, journal, time.monotonic() + 60)
    work_through(listed, journal, time.monotonic() + 60, skip=1)
    assert [result.outcome for result in journal.results] == [FAILED, PASSED]


def test_a_process_that_dies_fails_its_case_and_the_rest_goes_on(tmp_path: Path, monkeypatch) -> None:
    listed = [Case("fine", lambda: None), Case("crash", lambda: None), Case("later", lambda: None)]

    def dies_once(settings: plan.Settings, journal: Journal, seconds: float) -> int:
        if journal.results:
            work_through(listed, journal, time.monotonic() + 60, skip=len(journal.results))
            return 0
        journal.plan(case.name for case in listed)
        journal.start("fine")
        journal.finish(Result("fine", PASSED))
        journal.start("crash")
        return -11

    monkeypatch.setattr(runner, "_run_process", dies_once)
    results = runner.run_part(plan.Settings("test", tmp_path, tmp_path), 60)
    assert [(result.name, result.outcome) for result in results] == [
        ("fine", PASSED),
        ("crash", FAILED),
        ("later", PASSED),
    ]
    assert "signal 11" in results[1].detail


def test_a_process_that_always_dies_leaves_cases_that_did_not_run(tmp_path: Path, monkeypatch) -> None:
    def dies(settings: plan.Settings, journal: Journal, seconds: float) -> None:
        if journal.planned is None:
            journal.plan(f"case {index}" for index in range(20))
        journal.start(f"case {len(journal.results)}")

    monkeypatch.setattr(runner, "_run_process", dies)
    outcomes = [result.outcome for result in runner.run_part(plan.Settings("test", tmp_path, tmp_path), 60)]
    assert outcomes == [FAILED] * runner.MAX_PROCESSES + [NOT_RUN] * (20 - runner.MAX_PROCESSES)


# --- The kernels are really compared


class HostDevice:
    """The CPU kernels in the place of the GPU's, with one element changed after the fact."""

    def __init__(self, kernels: Kernels, broken: str = "") -> None:
        self.kernels, self.broken = kernels, broken

    def call(self, problem: Problem, deterministic: bool = False) -> Call:
        broken = self.broken

        class Broken(Call):
            def results(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
                found = super().results(names)
                if broken in found:
                    found[broken].flat[-1] += 0.25
                return found

        return Broken(self.kernels, problem)

    def newest_kernels(self) -> Iterator[int]:
        return iter([80])


@pytest.mark.parametrize("broken", ["", "out", "lse", "dquery", "dkey", "dvalue", "dsink"])
def test_a_wrong_result_is_a_failure(kernels: Kernels, broken: str) -> None:
    problem = cases.problem_of(CHOICE)
    if not broken:
        grid.compare(HostDevice(kernels), problem, False)
        return
    with pytest.raises(AssertionError, match=f"{broken}: error"):
        grid.compare(HostDevice(kernels, broken), problem, False)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("driver") / "libcuda.so"
    source = Path(__file__).with_name("fake_driver.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", source, "-o", library], check=True)
    return library


@pytest.fixture
def fake_gpu(driver: Path, kernels: Kernels, monkeypatch):
    """A CudaDevice whose memory is the host's and whose kernels are the CPU's."""
    monkeypatch.setattr(device, "_DRIVERS", (str(driver),))
    monkeypatch.setattr(device, "CUDA", 0)
    monkeypatch.setattr(device, "each_newest_kernels", lambda kernels: iter([80]))
    yield device.CudaDevice(kernels.path)
    ctypes.CDLL(str(driver)).fake_fail_from_now_on(0)


def test_arrays_travel_to_the_device_and_back(fake_gpu: device.CudaDevice) -> None:
    for layout in ("packed", "heads_first", "sequence_first"):
        choice = CHOICE | {"layout": layout, "dlse": True, "blocks": True, "batch": 2}
        grid.compare(fake_gpu, cases.problem_of(choice), True)


def test_a_byte_written_past_an_array_is_noticed(fake_gpu: device.CudaDevice) -> None:
    for place, side in ((-1, "before"), (100, "after")):
        array = fake_gpu.allocate(100)
        array.check_guards("lse")
        ctypes.memset(array.address + place, 1, 1)
        with pytest.raises(AssertionError, match=f"lse: 1 bytes {side} it"):
            array.check_guards("lse")


def test_an_error_of_the_driver_is_a_lost_device(fake_gpu: device.CudaDevice, driver: Path) -> None:
    ctypes.CDLL(str(driver)).fake_fail_from_now_on(700)
    with pytest.raises(DeviceLost, match="illegal memory access"):
        fake_gpu.synchronize()


def test_without_a_driver_nothing_is_run(kernels: Kernels, monkeypatch) -> None:
    monkeypatch.setattr(device, "_DRIVERS", ("libno-such-driver.so",))
    with pytest.raises(NotRun, match="no GPU driver"):
        device.CudaDevice(kernels.path)


# --- From the command line to the JSON


def run_main(monkeypatch, out: Path, *arguments: str) -> tuple[int, dict]:
    monkeypatch.setenv("OUT", str(out))
    monkeypatch.setenv("GPU_CHECK_COMMIT", "0123abc")
    status = gpu_check.main(["--emulated", *arguments])
    return status, json.loads((out / "gpu_check.json").read_text())


def test_a_broken_library_fails_the_run(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    library = tmp_path / "kernels.so"
    library.write_text("no library")
    status, record = run_main(monkeypatch, tmp_path, "--library", str(library), "--only", "^00", "test")
    assert status == 1 and record["outcome"] == FAILED
    assert record["commit"] == "0123abc" and record["emulated"]
    (part,) = [part for part in record["parts"] if part["name"] == "test"]
    assert part["outcome"] == FAILED and part["cases"]
    assert all(case["outcome"] == FAILED and "kernels.so" in case["detail"] for case in part["cases"])
    printed = capsys.readouterr().out
    assert "failed: test: 000 " in printed and "no figure counts" in printed
    assert (tmp_path / "test.log").stat().st_size > 0


def test_nothing_fits_into_no_time(tmp_path: Path, monkeypatch) -> None:
    status, record = run_main(monkeypatch, tmp_path, "--library", "none.so", "--budget", "0", "test")
    assert status == 2 and record["outcome"] == NOT_RUN
    assert all(case["outcome"] == NOT_RUN for part in record["parts"] for case in part["cases"])


# --- Masks and figures


@pytest.mark.parametrize("seqlen", [640, 1000])
@pytest.mark.parametrize("name", paper_masks.NAMES)
def test_pairs_and_tiles_are_those_of_the_mask(name: str, seqlen: int) -> None:
    mask = paper_masks.paper_mask(name, seqlen)
    if mask.columns is None:
        assert mask.pairs == (seqlen * (seqlen + 1) // 2 if mask.causal else seqlen**2)
        return
    counted = paper_masks.masks_package().ColumnMask(mask.columns, mask.causal, seqlen).statistics()
    assert mask.pairs == counted.visible_pairs
    assert mask.tile_efficiency == counted.visible_pairs / (counted.live_tiles * 128 * 128)


def test_masks_are_built_without_the_compiled_module() -> None:
    program = (
        "import sys; sys.modules['paddle_flashmask._core'] = None\n"
        "from tools.gpu_check.paper_masks import NAMES, paper_mask\n"
        "print(sum(paper_mask(name, 512).pairs for name in NAMES))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(paper_masks.paper_mask(name, 512).pairs for name in paper_masks.NAMES)


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
    assert timing.summary([3.0, 1.0, 2.0], flop=4e9)["tflops"] == pytest.approx(2.0)


# --- Gates


def row_of(mask: str, seqlen: int, head_dim: int, rate: float = 790.0) -> dict:
    described = paper_masks.paper_mask(mask, seqlen)
    names = ("tile_efficiency", "live_tiles_per_row", "partial_tiles")
    shape = {"mask": mask, "seqlen": seqlen, "head_dim": head_dim, "matmul_tflops": rate}
    return shape | {name: getattr(described, name) for name in names}


@pytest.mark.parametrize(
    ("mask", "seqlen", "head_dim", "forward", "backward"),
    [
        ("full", 8192, 128, 708, 616),
        ("causal", 8192, 128, 685, 585),
        ("sliding_window", 8192, 128, 465, 335),
        ("global_sliding_window", 8192, 128, 486, 388),
        ("full", 8192, 64, 545, 502),
    ],
)
def test_goals_by_hand(mask: str, seqlen: int, head_dim: int, forward: float, backward: float) -> None:
    row = row_of(mask, seqlen, head_dim)
    assert gates.gates(row, "forward")["goal"] == pytest.approx(forward, rel=0.01)
    assert gates.gates(row, "backward")["goal"] == pytest.approx(backward, rel=0.01)


def test_gates_follow_the_matrix_product_and_exist_where_something_is_known() -> None:
    slow, fast = (gates.gates(row_of("full", 8192, 128, rate), "forward") for rate in (395.0, 790.0))
    assert {name: gate / 2 for name, gate in fast.items()} == pytest.approx(slow)
    assert fast["par"] == pytest.approx(0.95 * 702) and fast["stretch"] == pytest.approx(0.93 * 790)
    sparse = gates.gates(row_of("share_question", 8192, 128), "backward")
    assert sparse["par"] is None and sparse["stretch"] is None


def test_goals_are_a_row_per_mask_and_length() -> None:
    lines = goals.markdown(790.0, seqlens=(8192,)).splitlines()
    assert len(lines) == 2 + len(paper_masks.NAMES)
    full = "| full | 8192 | 1.000 | 1.000 | 0.00 | 790 | 667 / 581 | 708 / 616 | 472 / 450 | 544 / 502 |"
    assert lines[2] == full


def test_gates_that_are_passed_are_named() -> None:
    row = row_of("full", 8192, 128)
    for speed, names in ((660.0, "none"), (700.0, "par"), (720.0, "par, goal"), (740.0, "par, goal, stretch")):
        assert gates.reached(row | {"forward": {"contestants": {"ours": {"tflops": speed}}}}, "forward") == names


# --- FlashAttention-3


class FakeInterface(types.ModuleType):
    """Takes and returns as the package; says how it was called."""

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


# --- What becomes of figures


def measured_row() -> dict:
    contestants = {"ours": timing.summary([2.0], 8e11), "sdpa_flash": timing.summary([3.0], 8e11)}
    direction = {"flop": 8e11, "load": {"clocks.sm": 1700.0, "power.draw": 650.0}, "contestants": contestants}
    shape = {"mask": "causal", "seqlen": 8192, "head_dim": 128, "heads": 32, "heads_kv": 32, "batch": 4}
    tiles = {"tile_efficiency": 0.985, "live_tiles_per_row": 32.5, "partial_tiles": 1 / 32.5, "matmul_tflops": 800.0}
    absent = {"fa3": "NotRun: absent: none of these can be imported"}
    return shape | tiles | {"forward": direction, "backward": direction, "absent": absent}


def record_with_figures(emulated: bool = False) -> dict:
    product = timing.summary([1.4], 1.1e12) | {"size": 8192, "method": timing.METHOD}
    results = [
        Result("matmul at the start", PASSED, figures=product),
        Result("causal", PASSED, figures=measured_row()),
        Result("preparation", PASSED, figures={"preparation_microseconds": 9.5, "keys": 131072}),
        Result("document", FAILED, detail="flex: relative difference 1e-1"),
    ]
    machine = {"gpu": {"name": "NVIDIA H200", "driver_version": "580"}, "packages": {"torch": "2.11.0"}}
    parts = [gpu_check.describe_part("bench", results, 10.0, 100.0)]
    date = "2026-01-01T00:00:00+00:00"
    return {"commit": "0123abc", "date": date, "emulated": emulated, "machine": machine, "parts": parts}


def test_the_table_shows_failures_and_ratios() -> None:
    text = table.of(record_with_figures())
    assert "failed: bench: document: flex: relative difference" in text
    assert "sdpa_flash 1.50" in text and " 400.0   50  none; " in text


def test_the_report_is_markdown_with_every_figure() -> None:
    text = report.markdown(record_with_figures())
    assert "NVIDIA H200, driver 580" in text and "commit 0123abc" in text
    assert "| causal | 8192 | 128 | 4 | 32 | 0.985 | forward | 2.000 | 400 | 50 | 51 | 1.50 | 1700 | 650 |" in text
    assert "| causal | 8192 | 128 | forward | 400 | 0.60 | 0.58 | 0.54 | none |" in text
    assert "* fa3: NotRun: absent: none of these can be imported (causal 8192 D128)" in text
    assert "| bench | failed | 3 | 1 | 0 | 10 |" in text
    assert "Mask preparation at 131072 keys: 9.5 us." in text


def test_no_report_of_a_rehearsal() -> None:
    with pytest.raises(ValueError, match="emulated"):
        report.markdown(record_with_figures(emulated=True))


# --- What other tools print


def test_registers_are_read_and_spills_seen() -> None:
    text = """
Fatbin elf code:
================
arch = sm_80
 Resource usage:
  Common:
   GLOBAL:0
 Function _Z7Forwardv:
  REG:254 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:528 TEXTURE:0 SURFACE:0 SAMPLER:0
arch = sm_90
 Function _Z8Backwardv:
  REG:255 STACK:16 SHARED:128 LOCAL:8 CONSTANT[0]:528
"""
    kernels = build.read_resources(text)
    assert [(kernel["architecture"], kernel["reg"], kernel["local"]) for kernel in kernels] == [
        ("sm_80", 254, 0),
        ("sm_90", 255, 8),
    ]


@pytest.mark.parametrize(
    ("output", "status", "outcome"),
    [
        ("results are right\n========= ERROR SUMMARY: 0 errors", 0, None),
        ("results are right\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", 0, None),
        ("results are right\n========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)", 0, AssertionError),
        ("========= ERROR SUMMARY: 0 errors", 0, AssertionError),
        ("results are right", 0, AssertionError),
        ("results are right\n========= ERROR SUMMARY: 3 errors", 99, AssertionError),
        ("========= Error: Device not supported", 255, NotRun),
    ],
)
def test_sanitizers_pass_only_what_they_say_is_clean(output: str, status: int, outcome: type | None) -> None:
    if outcome is None:
        sanitize.judge(output, status)
        return
    with pytest.raises(outcome):
        sanitize.judge(output, status)


def test_metrics_of_the_profiler_are_read() -> None:
    text = """
  void pfm::Forward<(int)128>(Arguments) (1024, 1, 1)x(128, 1, 1), Context 1, Stream 7, Device 0, CC 9.0
    Section: GPU Speed Of Light Throughput
    ----------------------- ----------- ------------
    Metric Name             Metric Unit Metric Value
    ----------------------- ----------- ------------
    Duration                         ms         1.25
    Compute (SM) Throughput           %        71.50
    Registers Per Thread register/thread          254
    Dropped                           %         1.00
"""
    (kernel,) = profile.read_metrics(text)
    assert kernel["kernel"].startswith("void pfm::Forward") and kernel["Duration"] == "1.25 ms"
    assert kernel["Compute (SM) Throughput"] == "71.50 %" and "Dropped" not in kernel
