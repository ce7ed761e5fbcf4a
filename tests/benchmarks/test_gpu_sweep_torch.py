"""The sweep at the size that is timed, on a stand-in for a GPU. Needs torch: `make test-gpu-check`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import few_variants
import pytest
from support import fake_cuda, fake_programs

from benchmarks.gpu import sweep, timing
from benchmarks.gpu.bench import Row
from tools.gpu_check import device
from tools.gpu_check.journal import Journal
from tools.gpu_check.outcome import FAILED, PASSED, run_case
from tools.gpu_check.plan import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    few_variants.build()
    driver = fake_programs.build_driver(tmp_path / "libcuda.so")
    fake_programs.emulate(driver, few_variants.PATH)
    monkeypatch.setattr(device, "_DRIVERS", (str(driver),))
    monkeypatch.setattr(sweep, "paper_row", lambda mask, seqlen, dim: Row(mask, 128, dim, 1, 1, 1))
    monkeypatch.setattr(sweep, "_SMALL", sweep._REHEARSED)
    monkeypatch.setattr(sweep, "LIBRARY", sweep.EMULATED_LIBRARY)
    monkeypatch.setattr(sweep, "FIRST_ROUNDS", 1)
    monkeypatch.setattr(sweep, "LAST_ROUNDS", 1)
    monkeypatch.setattr(timing, "FLUSH_BYTES", 1 << 12)
    with fake_cuda.fake_gpu(few_variants.PATH):
        yield Settings("sweep", few_variants.PATH.with_name("_kernels.so"), tmp_path)


def run(settings: Settings) -> dict[str, Any]:
    journal, results = Journal(settings.out / sweep.FILE, settings.part), {}
    for case in sweep.cases(settings):
        results[case.name] = run_case(case)
        journal.finish(results[case.name])
    return results


def test_variants_are_verified_and_timed_at_real_size(settings: Settings) -> None:
    results = run(settings)
    assert {result.outcome for result in results.values()} == {PASSED}, results
    verified = results[f"forward: {few_variants.FORWARD}"].figures["difference"]
    assert set(verified) == set(sweep.MASKS) and all(value < 0.01 for value in verified.values())
    timed = results["backward: the best 5 again"].figures
    assert set(timed["variants"]) == set(sweep.MASKS) and len(timed["ranking"]) == 2
    assert timed["variants"]["full"][sweep.TABLE]["tflops"] > 0
    assert timed["summary"]["lines"]


def test_a_variant_that_is_wrong_at_real_size_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    right = sweep.SizedCall._results

    def wrong(call: sweep.SizedCall, direction: str, index: int) -> dict[str, Any]:
        found = right(call, direction, index)
        if index:
            found["out" if direction == "forward" else "dkey"][0, :9] = 3.0
        return found

    monkeypatch.setattr(sweep.SizedCall, "_results", wrong)
    results = run(settings)
    assert results[f"forward: {few_variants.FORWARD}"].outcome == FAILED
    assert len(results["forward: all in turns"].figures["ranking"]) == 1  # the table's row alone
