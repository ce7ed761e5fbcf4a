"""The sweep of benchmarks/gpu and the variants that it times, in the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import few_variants
import pytest
from support.emulated import EmulatedCall, EmulatedKernels, emulated_library
from support.problem import Problem

from benchmarks.gpu import sweep
from tools import sweep_variants, variant_headers
from tools.gpu_check import runner
from tools.gpu_check.outcome import FAILED, NOT_RUN, PASSED, Result, run_case
from tools.gpu_check.plan import Settings


@pytest.fixture(scope="session")
def described() -> dict[str, Any]:
    return few_variants.build()


@pytest.fixture
def settings(described: dict[str, Any], tmp_path: Path) -> Settings:
    return Settings("sweep", emulated_library(), tmp_path, emulated=True)


def test_variants_that_do_not_fit_are_left_out_with_their_reason(described: dict[str, Any]) -> None:
    assert [(variant["direction"], variant["index"]) for variant in described["variants"]] == [
        ("forward", 1),
        ("backward", 1),
    ]
    refused = {f"backward {few_variants.REFUSED}": "it does not fit shared memory or registers"}
    assert described["refused"] == refused
    assert json.loads(few_variants.PATH.with_suffix(".json").read_text()) == described


def test_a_selected_variant_is_the_one_that_runs(described: dict[str, Any]) -> None:
    kernels = EmulatedKernels(few_variants.PATH)
    kernels.configure(seed=1, compute_capability=90)
    problem = Problem(seqlen_q=192, seqlen_k=192, head_dim=64, head_dim_v=64, dtype="bfloat16")
    products = []
    for index in (0, 1, 0):
        sweep.select(kernels, "forward", index)
        before = kernels.warpgroup_products()
        EmulatedCall(kernels, problem).forward()
        products.append(kernels.warpgroup_products() - before)
    # 192 x 96 against 128 x 64: three warpgroups and two key tiles, or four (one idle) and three.
    assert products[0] == products[2] != products[1]
    with pytest.raises(AssertionError, match="pfm_select_variants"):
        sweep.select(kernels, "backward", 2)


def test_the_sweep_is_rehearsed(settings: Settings) -> None:
    results = runner.Runner().run_part(settings, 60.0)
    assert [result.outcome for result in results] == [PASSED] * 6, results
    (ranking,) = [result.figures["ranking"] for result in results if result.name == "forward: all in turns"]
    names = {sweep.TABLE, few_variants.FORWARD}
    assert {entry["name"] for entry in ranking} == names
    assert (settings.out / "journal.jsonl").read_text().count('"finished"') == 6


def test_a_wrong_variant_is_not_timed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [Result("forward: right", PASSED), Result("forward: wrong", FAILED)]
    monkeypatch.setattr(sweep, "_results", lambda settings: {result.name: result for result in results})
    listed = [{"name": "right", "index": 1}, {"name": "wrong", "index": 2}, {"name": "unknown", "index": 3}]
    assert [variant["name"] for variant in sweep._right(settings, "forward", listed)] == ["right"]
    with pytest.raises(sweep.NotRun, match="were not timed"):
        sweep._best(settings, "forward", listed)


def test_variants_are_ranked_by_their_speed_over_the_table() -> None:
    times = {sweep.TABLE: {"median_ms": 2.0}, "slow": {"median_ms": 4.0}, "fast": {"median_ms": 1.0}}
    ranked = sweep.ranking({"full": times, "causal": times})
    assert ranked == [{"name": n, "speed": s} for n, s in (("fast", 2.0), (sweep.TABLE, 1.0), ("slow", 0.5))]


def test_without_the_library_nothing_is_run(tmp_path: Path) -> None:
    (case,) = sweep.cases(Settings("sweep", tmp_path / "kernels.so", tmp_path))
    result = run_case(case)
    assert result.outcome == NOT_RUN and "make sweep-variants" in result.detail


@pytest.mark.parametrize("direction", sweep_variants.DIRECTIONS)
def test_a_copied_header_holds_the_row_alone(direction: str, tmp_path: Path) -> None:
    row = variant_headers.table_row(direction, 128)
    text = variant_headers.write(tmp_path, direction, row, cached_mib=7).read_text()
    assert "kCachedBytes = 7 << 20;" in text and text.count("    {128, 128, ") == 1 and "{64, 64," not in text
    guard = f"PFM_CUDA_SM90_{direction.upper()}_CONFIG_H_"
    assert f"#ifndef {guard}" in text and "PFM_CUDA_COMMON_HEAD_GROUPS_H_" in text
    with pytest.raises(LookupError):
        variant_headers.table_row(direction, 72)


def test_candidates_differ_from_the_table_and_from_each_other() -> None:
    listed = list(sweep_variants.candidates(128))
    keys = [(v.direction, v.name) for v in listed]
    assert len(set(keys)) == len(keys) > 80
    assert len({(v.direction, *v.row.values(), v.cached_mib) for v in listed}) == len(keys)
    assert ("forward", "192x80 stages 2 query stages 1") in keys
