"""The ladder of tools/gpu_check: its rungs, and some of them in the emulator."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from support import mask_samples
from support.call import Call
from support.emulated import emulated_library

from tools.gpu_check import cases, grid, ladder, plan, preparation
from tools.gpu_check.device import EmulatedDevice
from tools.gpu_check.error_map import error_map
from tools.gpu_check.outcome import NOT_RUN, PASSED, run_case

D128 = (128, 128)


def rung_of(name: str, listed: tuple[ladder.Rung, ...]) -> ladder.Rung:
    return next(rung for rung in listed if rung.name == name)


def test_every_row_of_the_tables_climbs_every_rung() -> None:
    climbed = [(generation, direction, dims) for generation, direction, dims, _ in ladder.rungs(emulated=False)]
    for direction, tables, listed in (
        ("forward", cases.forward_dims_90(), ladder.FORWARD_RUNGS),
        ("backward", cases.backward_dims_90(), ladder.BACKWARD_RUNGS),
    ):
        assert {D128, (64, 64), (256, 256)} <= set(tables)
        for dims in tables:
            assert climbed.count((90, direction, dims)) == len(listed)
        assert climbed.count((80, direction, D128)) == len(listed)
    assert (192, 128) in cases.forward_dims_90()
    kinds = {rung.choice.get("kind", "full") for rung in ladder.FORWARD_RUNGS + ladder.BACKWARD_RUNGS}
    assert kinds <= set(mask_samples.kinds())


def test_the_control_comes_first_and_head_dim_128_before_the_other_rows() -> None:
    listed = ladder.cases(plan.Settings("ladder", Path(), Path()))
    compiled, *climbed = listed
    assert compiled.seconds == preparation.BUILD_SECONDS
    assert all(case.row and case.seconds <= 15 for case in climbed)
    rows = list(dict.fromkeys(case.row for case in climbed))
    assert rows[0] == "mask preparation"
    directions = ("forward", "backward", "backward in turn")
    assert rows[1:7] == [f"{kernels} {direction} D128,128" for kernels in ("8.0", "9.0") for direction in directions]
    assert set(rows[7:]) == {
        *(f"9.0 forward D{dims[0]},{dims[1]}" for dims in cases.forward_dims_90() if dims != D128),
        *(f"9.0 backward D{dims[0]},{dims[1]}" for dims in cases.backward_dims_90() if dims != D128),
        *(f"9.0 backward in turn D{dims[0]},{dims[1]}" for dims in cases.backward_dims_90() if dims != D128),
    }


def test_the_reference_of_a_rung_takes_seconds() -> None:
    for _, _, dims, rung in ladder.rungs(emulated=False):
        (seqlen_q, seqlen_k), heads = rung.choice["size"], rung.choice.get("heads", (1, 1, 1))[0]
        assert seqlen_q * seqlen_k * heads * sum(dims) <= 1 << 30, (dims, rung)  # half a second per 2^26


@pytest.fixture(scope="module")
def settings() -> plan.Settings:
    return plan.Settings("ladder", emulated_library(), Path(), emulated=True)


@pytest.mark.parametrize("generation", [90, 80])
@pytest.mark.parametrize(
    "rung",
    [
        rung_of("one tile, one consumer", ladder.FORWARD_RUNGS),
        rung_of("several items in one block", ladder.FORWARD_RUNGS),
        rung_of("one tile, dquery unwanted", ladder.BACKWARD_RUNGS),
        rung_of("dquery in turn, one block", ladder.BACKWARD_RUNGS),
    ],
    ids=lambda rung: rung.name,
)
def test_rungs_hold_in_the_emulator(settings: plan.Settings, generation: int, rung: ladder.Rung) -> None:
    ladder.check(settings, generation, (64, 64), rung)


def test_a_wrong_rung_fails_with_a_map(settings: plan.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    true_results = Call.results

    def wrong(call: Call, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        found = true_results(call, names)
        found["out"][0, 3, 0, 5] += 1.0
        return found

    monkeypatch.setattr(Call, "results", wrong)
    with pytest.raises(AssertionError, match="rows 0-63 dims 0-63: 1 of 4096 elements"):
        ladder.check(settings, 90, (64, 64), ladder.FORWARD_RUNGS[0])


def test_only_the_gradients_of_a_rung_are_computed(settings: plan.Settings) -> None:
    rung = ladder.BACKWARD_RUNGS[0]
    climb = functools.partial(ladder.climb, EmulatedDevice(settings.library), 90)
    problem = ladder.problem_for((64, 64), rung)
    assert "dquery" not in climb(problem, rung)
    assert set(climb(problem, ladder.FORWARD_RUNGS[0])) == {"out", "lse"}


def test_a_fault_of_the_forward_does_not_hide_the_backward(settings: plan.Settings, monkeypatch) -> None:
    device = EmulatedDevice(settings.library)
    chosen = []
    for direction in ("forward", "backward"):
        launch = getattr(device.kernels, direction)
        monkeypatch.setattr(
            device.kernels, direction, lambda params, launch=launch: chosen.append(generations[-1]) or launch(params)
        )
    generations: list[int] = []
    select = device.kernels.set_newest_cuda_kernels
    monkeypatch.setattr(
        device.kernels, "set_newest_cuda_kernels", lambda newest: generations.append(newest) or select(newest)
    )
    for rung in (ladder.FORWARD_RUNGS[0], ladder.BACKWARD_RUNGS[0]):
        ladder.climb(device, 90, ladder.problem_for((64, 64), rung), rung)
    assert chosen == [90, 80, 90]


def test_cases_of_a_backward_follow_their_forward(settings: plan.Settings) -> None:
    listed = grid.cases(plan.Settings("test", settings.library, Path()))
    for row in ("9.0 backward D", "9.0 backward in turn D"):
        backward = next(case for case in listed if case.row.startswith(row))
        assert backward.after == (backward.row.replace(row, "9.0 forward D"),)
    assert all(case.after == () for case in listed if "backward" not in case.row)


def test_a_map_shows_nan_and_the_tiles_of_lse() -> None:
    truth = np.zeros((1, 70, 2, 8), np.float32)
    result = truth.copy()
    result[0, 69, 1, 0] = np.nan
    text = error_map("out", result, truth, 0.1)
    assert "1 of 4 tiles" in text and "head 1 rows 64-69 dims 0-7: 1 of 48 elements, largest error inf" in text
    lse = np.full((1, 2, 70), -np.inf, np.float32)
    assert "0 of 4 tiles" in error_map("lse", lse, lse.copy(), 0.0)
    assert error_map("dsink", np.zeros(2), np.zeros(2), 0.0) == ""


def test_every_row_of_the_stratum_runs_on_the_9_0_kernels() -> None:
    rows = cases.stratum_90()
    assert len(rows) > 100
    assert all(cases.runs_on_90(cases.problem_of(row)) for row in rows)
    assert {row["dims"] for row in rows} == set(cases.forward_dims_90())


def test_mask_preparation_is_that_of_numpy(settings: plan.Settings) -> None:
    results = [run_case(case) for case in preparation.cases(settings)]
    assert [result.outcome for result in results] == [PASSED] * 4, results


@pytest.mark.parametrize("name", ["columns", "bounds", "groups", "work", "order", "key_work", "key_order"])
def test_a_wrong_array_of_mask_preparation_is_named(name: str) -> None:
    choice, tiles = preparation.RUNGS[1]
    problem = cases.problem_of({"dtype": "bfloat16", "dims": (64, 64), **choice})
    found = preparation.prepare(preparation.build(emulated=True), problem, tiles)
    preparation.check(problem, tiles, found)
    wrong = found[name].copy()
    wrong[1] += 1
    with pytest.raises(AssertionError, match=f"{name} of mask 0: .* of .* differ"):
        preparation.check(problem, tiles, found | {name: wrong})


def test_a_program_beside_the_library_is_used(tmp_path: Path) -> None:
    (tmp_path / preparation.NAME).write_text("built beforehand")
    carried = plan.Settings("ladder", tmp_path / "kernels_cuda.so", tmp_path)
    assert preparation.program_of(carried) == tmp_path / preparation.NAME
    result = run_case(preparation.cases(carried)[1])
    assert result.outcome == NOT_RUN and "no GPU driver" in result.detail
