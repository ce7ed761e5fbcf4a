"""Parts of tools/gpu_check that use torch, on a stand-in for a GPU. Needs torch: `make test-gpu-check`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import fake_cuda
from support.emulated import emulated_library
from support.problem import Problem

from tools.gpu_check import determinism, large, large_problems, torch_checks
from tools.gpu_check.outcome import FAILED, NOT_RUN, PASSED, Case, Result, run_case
from tools.gpu_check.plan import Settings
from tools.gpu_check.with_torch import open_checks


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_cuda.FakeGpu]:
    """The stand-in, and problems that the emulator computes in a second."""
    monkeypatch.setattr(torch_checks, "REPLAYS", 1)
    monkeypatch.setattr(torch_checks, "BUSY_SEQLEN", {"cuda": 70})
    monkeypatch.setattr(torch_checks, "BUSY", {"heads_q": 2, "heads_kv": 1, "head_dim": 64, "head_dim_v": 64})
    monkeypatch.setattr(torch_checks, "huge_problem", lambda tiny: large_problems.huge_problem(True))
    monkeypatch.setattr(torch_checks, "NOISE_SIZE", 8)
    monkeypatch.setattr(torch_checks, "AGREEING", 2)
    monkeypatch.setattr(large, "LONG", large_problems.REHEARSED_LONG[1:])
    monkeypatch.setattr(large, "MIDDLE", large_problems.REHEARSED_MIDDLE)
    monkeypatch.setattr(determinism, "REPETITIONS", 2)
    with fake_cuda.fake_gpu(emulated_library()) as made:
        yield made


@pytest.fixture
def settings(gpu: fake_cuda.FakeGpu, tmp_path: Path) -> Settings:
    return Settings("test-large", emulated_library(), tmp_path)


def outcomes(cases: list[Case]) -> dict[str, Result]:
    return {case.name: run_case(case) for case in cases}


def test_every_check_of_a_real_gpu_runs_and_passes(settings: Settings) -> None:
    results = outcomes(large.cases(settings))
    assert {result.outcome for result in results.values()} == {PASSED}, results
    assert results["CUDA graph, 20 replays"].figures == {"replays": 1}
    assert results["two streams at once, dropout"].figures == {"rounds": 1}
    assert results["more than 2^31 elements"].figures["elements"] == 256 * 2 * 128


def test_repetitions_run_beside_other_work(settings: Settings) -> None:
    results = outcomes(determinism.cases(settings)[:1])
    assert [result.figures for result in results.values()] == [{"repetitions": 2}], results


def test_a_bit_that_differs_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = open_checks(settings)
    call = checks.call(checks.busy_problem())
    call.forward()
    expected = {"out": call.outputs["out"].clone()}
    call.outputs["out"][0, 3, 0, 5] += 1
    with pytest.raises(AssertionError, match="out: 1 of 8960 elements differ in replay 0"):
        checks._expect_bits(expected, call.outputs, "in replay 0")


def test_a_wrong_result_is_located(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = open_checks(settings)
    right = torch_checks.TorchCall.backward

    def wrong(call: torch_checks.TorchCall) -> None:
        right(call)
        call.outputs["dkey"][0, 65, 0, 3] += 1

    monkeypatch.setattr(torch_checks.TorchCall, "backward", wrong)
    problem = Problem(seqlen_q=70, seqlen_k=70, head_dim=64, head_dim_v=64, dtype="bfloat16")
    result = run_case(Case("wrong", lambda: checks.check(problem)))
    assert result.outcome == FAILED and "dkey" in result.detail and "1 of 4 tiles of 64 x 64" in result.detail


def test_little_memory_or_no_gpu_is_not_a_failure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 80 << 30))
    huge = next(case for case in large.cases(settings) if "2^31" in case.name)
    assert "50 GiB of free GPU memory" in run_case(huge).detail
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run_case(huge)
    assert (result.outcome, result.detail) == (NOT_RUN, "torch sees no GPU")


def test_what_needs_a_gpu_is_not_rehearsed(tmp_path: Path) -> None:
    rehearsal = Settings("test-large", emulated_library(), tmp_path, emulated=True)
    special = [case for case in large.cases(rehearsal) if case.name.startswith(("CUDA graph", "two streams"))]
    assert {run_case(case).outcome for case in special} == {NOT_RUN}


def test_tensors_of_the_stand_in_behave_as_on_a_gpu(gpu: fake_cuda.FakeGpu) -> None:
    on_gpu, on_host = torch.ones(3, device="cuda"), torch.ones(3)
    assert on_gpu.device.type == "cuda" and on_gpu.is_cuda and not on_host.is_cuda
    with pytest.raises(RuntimeError, match="same device"):
        on_gpu + on_host
    with pytest.raises(TypeError, match="numpy"):
        on_gpu.numpy()
    assert (on_gpu + 1).sum().cpu().numpy() == 6 and not on_gpu.to("cpu").is_cuda
    copied = on_host.to("cuda")
    copied += 1
    assert bool((on_host == 1).all()) and bool((copied.cpu() == 2).all())


def test_the_stand_in_offers_nothing_that_torch_lacks() -> None:
    for name in ("Event", "CUDAGraph"):
        offered = {attribute for attribute in vars(getattr(fake_cuda, name)) if not attribute.startswith("_")}
        assert offered - {"launches"} <= set(dir(getattr(torch.cuda, name))), name
