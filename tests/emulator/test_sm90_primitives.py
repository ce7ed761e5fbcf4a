"""Primitives of sm90. A product by TMA, mbarriers and wgmma is right in the emulator in every order tried, and every
way to break it is reported. Small kernels cover the other primitives. nvcc compiles all of them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tools import build_kernels

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]

INCLUDES = [f"-I{REPOSITORY / 'csrc'}", f"-I{REPOSITORY / 'tests'}"]
SEEDS = range(1, 6)

IN_FLIGHT = r"asynchronous read of 16 bytes .*, copied by the asynchronous operation of gemm\.h:\d+ in flight"
NOT_WAITED = r"asynchronous \w+ of 16 bytes .* by the asynchronous operation of gemm\.h:\d+ that was not waited for"
UNWRITTEN = r"asynchronous read of 16 bytes .*, which nobody has written"
UNFINISHED = r"read (for|until the wait of) warp [4-7] by the asynchronous operation of gemm\.h:\d+"
DEADLOCK = r"deadlock: .* wait in MbarrierWait for parity \d at gemm\.h:\d+"
OVER = r"more than the \d arrivals of a phase of this mbarrier"

REPORTS = {
    "wrong_phase": f"{IN_FLIGHT}|{NOT_WAITED}|{UNWRITTEN}|{DEADLOCK}",
    "no_expected_bytes": f"{IN_FLIGHT}|{NOT_WAITED}|{UNWRITTEN}|{DEADLOCK}",
    "no_empty_wait": f"{OVER}|{UNFINISHED}",
    "early_release": UNFINISHED,
    "early_release_of_one_warp": UNFINISHED,
    "released_by_one_warp": UNFINISHED,
    "released_for_another": UNFINISHED,
    "too_few_arrivals": UNFINISHED,
    "no_proxy_fence": r"written by thread \d+ at gemm\.h:\d+ with no FenceProxyAsync after it",
    "no_wait": r"the thread returned before WarpgroupWait<0>",
    "no_warpgroup_fence": r"no WarpgroupFence before this instruction since the last wait",
    "swapped_swizzle": r"^values$",
    "swapped_major": f"{NOT_WAITED}|{IN_FLIGHT}|{UNWRITTEN}|^values$",
    "small_box": DEADLOCK,
    "no_barrier_fence": r"no FenceMbarrierInit after the initialisation of the mbarrier of this copy",
    "too_many_arrivals": f"{OVER}|{UNFINISHED}",
    "wrong_direction": r"from 248 to 240 registers: the wrong direction",
    "no_store_wait": r"the thread returned while this asynchronous store reads shared memory",
    "no_sync": r"no mbarrier has been initialised at byte \d+|the mbarrier is initialised by thread 0 .* no barrier in",
    "overwritten_barrier": r"write of 4 bytes at byte \d+ of shared memory, where an mbarrier is",
    "no_commit": r"read for warp [4-7] by the asynchronous operation of gemm\.h:\d+ in flight",
    "changed_in_flight": r"sums were changed before this wait",
}


def build_emulated(source: Path, program: Path) -> Path:
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi"]
    command = [os.environ.get("CXX", "g++"), "-x", "c++", "-std=c++17", "-O1", "-DPFM_EMULATOR", *warnings, *INCLUDES]
    subprocess.run([*command, source, *sorted(HERE.glob("*.cc")), "-o", program], check=True)
    return program


@pytest.fixture(scope="session")
def gemm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_emulated(HERE / "sm90" / "program.cu", tmp_path_factory.mktemp("sm90") / "program")


def report_of(program: Path, mistake: str, seed: int) -> str:
    done = subprocess.run([program, mistake, str(seed)], capture_output=True, text=True, timeout=60)
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("way", ["none", "released_after_barrier"])
def test_product_is_right_in_any_order(gemm: Path, way: str) -> None:
    for seed in range(12):
        assert report_of(gemm, way, seed) == ""


@pytest.mark.parametrize("mistake", REPORTS)
def test_mistake_is_reported(gemm: Path, mistake: str) -> None:
    for seed in SEEDS:
        report = report_of(gemm, mistake, seed)
        assert re.search(REPORTS[mistake], report), report


@pytest.mark.parametrize("source", ["layouts", "copies"])
def test_every_shape(source: str, tmp_path: Path) -> None:
    """Every shape and layout of wgmma, and tensor and bulk copies, against plain C++."""
    program = build_emulated(HERE / "sm90" / f"{source}.cu", tmp_path / source)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source", ["program", "layouts", "copies"])
def test_compiles_for_a_gpu(source: str, tmp_path: Path) -> None:
    """nvcc compiles without warnings, spills or serialised wgmma."""
    target = ["-gencode=arch=compute_90a,code=sm_90a", "-Xptxas", "-v"]
    toolkit, reason = build_kernels.find_cuda()
    if toolkit is None:
        pytest.skip(reason)
    command = [str(toolkit.nvcc), "-std=c++17", "-O2", *target, *INCLUDES, "-c", HERE / "sm90" / f"{source}.cu"]
    done = subprocess.run([*command, "-o", tmp_path / "program.o"], capture_output=True, text=True, check=True)
    log = done.stdout + done.stderr
    assert "warning" not in log.lower() and "Potential Performance" not in log and "setmaxnreg" not in log, log
    assert re.findall(r"(\d+) bytes spill stores", log) and set(re.findall(r"(\d+) bytes spill", log)) == {"0"}, log
