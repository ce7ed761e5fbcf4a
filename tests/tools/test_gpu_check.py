"""tools/gpu_check without a GPU: the choice of parts, the outcomes of cases, and the record of a run."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import mask_samples

from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check import build, cases, plan, runner, sanitize
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
    for arguments, message in ((["tests"], "unknown subset 'tests'"), (["--emulated", "sanitize"], "needs a GPU")):
        with pytest.raises(SystemExit) as refused:
            gpu_check.main(arguments)
        assert refused.value.code == 2
        assert message in capsys.readouterr().err


def test_every_function_of_a_part_lists_cases_with_names_of_their_own(tmp_path: Path) -> None:
    for part in plan.PARTS.values():
        module = importlib.import_module(part.module)
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


# --- Outcomes


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
    assert [(result.outcome, result.detail) for result in journal.results] == [(NOT_RUN, "the time ran out")]


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
    assert "failed: test: 000 " in printed and "the figures have no meaning" in printed
    assert (tmp_path / "test.log").stat().st_size > 0


def test_nothing_fits_into_no_time(tmp_path: Path, monkeypatch) -> None:
    status, record = run_main(monkeypatch, tmp_path, "--library", "none.so", "--budget", "0", "test")
    assert status == 2 and record["outcome"] == NOT_RUN
    assert all(case["outcome"] == NOT_RUN for part in record["parts"] for case in part["cases"])


# --- Output of other programs


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
