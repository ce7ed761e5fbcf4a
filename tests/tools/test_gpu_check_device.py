"""Comparison of kernels in tools/gpu_check, and its device memory on a fake CUDA driver."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from support import fake_programs
from support.call import Call
from support.compare import Expectation
from support.library import Kernels
from support.problem import Problem

from tools.gpu_check import cases, device, grid
from tools.gpu_check.outcome import DeviceLost, NotRun

CHOICE = {
    "kind": "causal_document",
    "size": (63, 65),
    "heads": (4, 2, 1),
    "dropout": 0.1,
    "sink": True,
    "dims": (40, 64),
}


def test_the_same_row_gives_the_same_problem() -> None:
    first, second = cases.problem_of(CHOICE), cases.problem_of(CHOICE)
    assert str(first) == str(second)
    np.testing.assert_array_equal(first.startend, second.startend)
    np.testing.assert_array_equal(first.inputs["query"], second.inputs["query"])


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


@pytest.mark.parametrize("broken", ["", "out", "lse", "dquery", "dkey", "dvalue", "dsink"])
def test_a_wrong_result_is_a_failure(kernels: Kernels, broken: str, monkeypatch) -> None:
    monkeypatch.setattr(Kernels, "cuda_compute_capability", lambda kernels: 80)
    problem = cases.problem_of(CHOICE)
    direction = "forward" if broken in ("", "out", "lse") else "backward"
    expectation = Expectation(problem)
    if not broken:
        for side in grid.DIRECTIONS:
            grid.compare(HostDevice(kernels), expectation, 80, side)
        grid.compare(HostDevice(kernels), expectation, grid.CPU, "both")
        return
    with pytest.raises(AssertionError, match=f"{broken}: error"):
        grid.compare(HostDevice(kernels, broken), expectation, 80, direction)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_programs.build_driver(tmp_path_factory.mktemp("driver") / "libcuda.so")


@pytest.fixture
def fake_gpu(driver: Path, kernels: Kernels, monkeypatch):
    """A CudaDevice whose memory is the host's and whose kernels are the CPU's."""
    monkeypatch.setattr(device, "_DRIVERS", (str(driver),))
    monkeypatch.setattr(device, "CUDA", 0)
    monkeypatch.setattr(Kernels, "cuda_compute_capability", lambda kernels: 80)
    yield device.CudaDevice(kernels.path)
    ctypes.CDLL(str(driver)).fake_fail_from_now_on(0)


def test_arrays_travel_to_the_device_and_back(fake_gpu: device.CudaDevice) -> None:
    for layout in ("packed", "heads_first", "sequence_first"):
        choice = CHOICE | {"layout": layout, "dlse": True, "blocks": True, "batch": 2}
        expectation = Expectation(cases.problem_of(choice))
        for direction in grid.DIRECTIONS:
            grid.compare(fake_gpu, expectation, 80, direction, True)


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
