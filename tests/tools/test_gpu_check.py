"""tools/gpu_check without a GPU: the choice of parts, the outcomes of cases, and the record of a run."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import mask_samples
from support.library import DEVICE_ERROR, UNSUPPORTED, KernelError, Kernels
from support.repository import REPOSITORY

from benchmarks.gpu import profile
from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check import build, caches, cases, hang, plan, record, runner, sanitize
from tools.gpu_check.journal import FILE, Journal
from tools.gpu_check.outcome import (
    FAILED,
    INCOMPLETE,
    NOT_RUN,
    PASSED,
    Case,
    DeviceLost,
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
        assert subset in ("all", "first") or sum(chosen.values()) - chosen["build"] <= 560, subset
    first = plan.choose(["first"], emulated=False)
    assert sum(first.values()) - first["build"] - first["ladder"] + 60 <= 560  # a ladder without a hang
    assert list(first)[1:3] == ["conformance", "ladder"] and list(first)[-1] == "bench-first"
    assert set(plan.choose(["all"], emulated=False)) == set(plan.PARTS)
    assert set(plan.choose(["test", "bench"], emulated=False)) == {
        "build",
        "test",
        "test-large",
        "bench",
        "bench-masks",
    }


def test_a_subset_leaves_at_most_eight_files() -> None:
    for subset in plan.SUBSETS:
        if subset == "all":
            continue
        parts = [plan.PARTS[name] for name in plan.choose([subset], emulated=False)]
        files = {record.FILE, FILE, caches.ARCHIVE, *(part.log for part in parts)}
        if not all(part.undisturbed for part in parts[1:]):
            files.add(hang.ARCHIVE)
        if subset == "profile":
            files |= {profile.TEXT, profile.ARCHIVE}
        assert len(files) <= 8, files


def test_the_page_of_the_visits_shows_the_parts_of_the_first_one() -> None:
    text = (REPOSITORY / "docs" / "performance" / "results.md").read_text()
    table = text.split("| part | seconds | checks |")[1].split("\n\n")[0]
    shown = {name: int(seconds) for name, seconds in re.findall(r"^\| ([\w-]+) \| (\d+) \|", table, re.M)}
    chosen = plan.choose(["first"], emulated=False)
    del chosen["build"]
    assert list(shown.items()) == list(chosen.items())
    commands = re.findall(r"^tools/gpu_check.sh (.+)$", text, re.M)
    assert len(commands) == 4
    for arguments in commands:
        subsets = re.sub(r"--\w+ ('[^']*'|\S+)", "", arguments).split()
        assert plan.choose(subsets, emulated=False), arguments


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


def journal_at(path: Path) -> Journal:
    return Journal(path / "journal.jsonl", "test")


def results_of(journal: Journal) -> list[Result]:
    journal.refresh()
    return journal.results


def test_outcomes_of_cases(tmp_path: Path) -> None:
    journal = journal_at(tmp_path)
    listed = [
        Case("right", lambda: {"pairs": 3}),
        Case("absent", failing(NotRun("no tool"))),
        Case("wrong", failing(AssertionError("out: error 1.0"))),
    ]
    work_through(listed, journal, time.monotonic() + 60)
    results = results_of(journal)
    assert [result.outcome for result in results] == [PASSED, NOT_RUN, FAILED]
    assert results[0].figures == {"pairs": 3}
    assert "out: error 1.0" in results[2].detail
    assert outcome_of(results) == FAILED
    assert outcome_of(results[:2]) == INCOMPLETE
    assert outcome_of(results[:1]) == PASSED
    assert outcome_of(results[1:2]) == NOT_RUN


def test_what_does_not_fit_or_is_quarantined_is_not_run(tmp_path: Path) -> None:
    journal = journal_at(tmp_path)
    bad = Case("bad", lambda: None, row="9.0 forward 128")
    timed = Case("its time", lambda: None, row="ours 128", after=("9.0 forward 128", "9.0 backward 128"))
    listed = [Case("late", failing(AssertionError("was run"))), bad, timed]
    work_through(listed, journal, time.monotonic() - 1, quarantined=["9.0 forward 128"])
    assert [(result.outcome, result.detail) for result in results_of(journal)] == [
        (NOT_RUN, "the time ran out"),
        (NOT_RUN, "9.0 forward 128 is quarantined"),
        (NOT_RUN, "9.0 forward 128 is quarantined"),
    ]


class AcceleratorError(RuntimeError):
    """Stand-in for torch.AcceleratorError."""


@pytest.mark.parametrize(
    ("failure", "lost"),
    [
        (DeviceLost("700"), True),
        (KernelError("pfm_forward", DEVICE_ERROR, "an illegal memory access"), True),
        (AcceleratorError("CUDA error: unspecified launch failure"), True),
        (KernelError("pfm_forward", UNSUPPORTED, "head_dim 60"), False),
        (AssertionError("out: error 1.0"), False),
    ],
)
def test_any_failure_ends_the_process_and_a_lost_context_is_named(failure: Exception, lost: bool, tmp_path) -> None:
    journal = journal_at(tmp_path)
    listed = [Case("first", failing(failure)), Case("second", lambda: None)]
    work_through(listed, journal, time.monotonic() + 60)
    (result,) = results_of(journal)
    assert result.outcome == FAILED and ("the GPU context was lost" in result.detail) == lost
    work_through(listed, journal, time.monotonic() + 60, skip=1)
    assert [result.outcome for result in results_of(journal)] == [FAILED, PASSED]


def test_a_line_cut_off_in_the_journal_is_skipped(tmp_path: Path) -> None:
    journal = journal_at(tmp_path)
    journal.plan([Case("only", lambda: None)])
    with journal.path.open("a") as file:
        file.write('{"part": "test", "fini')
    journal.finish(Result("only", PASSED))
    assert [result.name for result in results_of(journal)] == ["only"]


# --- From the command line to the JSON


def run_main(monkeypatch, out: Path, *arguments: str) -> tuple[int, dict]:
    monkeypatch.setenv("OUT", str(out))
    monkeypatch.setenv("GPU_CHECK_COMMIT", "0123abc")
    status = gpu_check.main(["--emulated", *arguments])
    return status, json.loads((out / "gpu_check.json").read_text())


def test_a_library_that_cannot_be_loaded_is_built(tmp_path: Path, monkeypatch, capsys, kernels: Kernels) -> None:
    chosen = []
    monkeypatch.setattr(
        gpu_check, "run_parts", lambda record, parts, library, *_: chosen.append((list(parts), library))
    )
    broken = tmp_path / "variants.so"
    broken.write_text("of another machine")
    run_main(monkeypatch, tmp_path, "--library", str(broken), "ladder")
    run_main(monkeypatch, tmp_path, "--library", str(kernels.path), "ladder")
    assert [parts for parts, _ in chosen] == [["build", "ladder"], ["ladder"]]
    assert [library.name for _, library in chosen] == ["kernels_emulated.so", kernels.path.name]
    assert "variants.so cannot be loaded, so kernels_emulated.so is built: OSError: " in capsys.readouterr().out


def test_a_broken_library_fails_the_run(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    library = tmp_path / "kernels.so"
    library.write_text("no library")
    monkeypatch.setattr(gpu_check, "why_unloadable", lambda library: "")
    status, record = run_main(monkeypatch, tmp_path, "--library", str(library), "--only", "^00", "test")
    assert status == 1 and record["outcome"] == FAILED
    assert record["commit"] == "0123abc" and record["emulated"]
    (part,) = [part for part in record["parts"] if part["name"] == "test"]
    assert part["outcome"] == FAILED and part["cases"]
    assert all(case["outcome"] == FAILED and "kernels.so" in case["detail"] for case in part["cases"])
    printed = capsys.readouterr().out
    assert "failed: test: 000 " in printed and "the figures have no meaning" in printed
    assert (tmp_path / "test.log").stat().st_size > 0


def test_nothing_runs_after_a_failed_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Result("library", FAILED, detail="error: no such header")
    monkeypatch.setattr(gpu_check.Runner, "run_part", lambda runner, settings, seconds: [failed])
    status, record = run_main(monkeypatch, tmp_path, "ladder")
    build_part, ladder_part = record["parts"]
    assert status == 1 and build_part["outcome"] == FAILED and ladder_part["outcome"] == NOT_RUN
    assert ladder_part["cases"][0]["detail"] == "the library could not be built"


def test_a_part_whose_process_cannot_start_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plan.PARTS, "broken", plan.Part("broken", "no.such.module", 10, "broken.log"))
    (result,) = runner.Runner().run_part(plan.Settings("broken", tmp_path / "kernels.so", tmp_path), 10.0)
    assert result.outcome == FAILED and "ended with status 1 before its first case" in result.detail
    assert "ModuleNotFoundError" in (tmp_path / "broken.log").read_text()


def test_a_row_of_which_nothing_passes_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = runner.Runner()
    rows = ["9.0 forward D128,128"] * runner.FAILURES_BEFORE_QUARANTINE + ["9.0 forward D64,64", ""]
    outcomes = [FAILED] * len(rows)

    def run(self: runner.Runner, settings: plan.Settings, journal: Journal, deadline: float) -> str:
        journal.plan([Case(str(index), lambda: None, row=row) for index, row in enumerate(rows)])
        for index, outcome in enumerate(outcomes):
            journal.finish(Result(str(index), outcome))
        journal.refresh()
        return "ended"

    monkeypatch.setattr(runner.Runner, "_run_process", run)
    tried.run_part(plan.Settings("ladder", tmp_path, tmp_path), 10.0)
    assert tried.quarantined == ["9.0 forward D128,128"]
    outcomes[0] = PASSED
    passing = runner.Runner()
    passing.run_part(plan.Settings("test", tmp_path, tmp_path), 10.0)
    assert passing.quarantined == []


def test_nothing_fits_into_no_time(tmp_path: Path, monkeypatch) -> None:
    status, record = run_main(monkeypatch, tmp_path, "--library", "none.so", "--budget", "0", "test")
    assert status == 2 and record["outcome"] == NOT_RUN
    assert all(case["outcome"] == NOT_RUN for part in record["parts"] for case in part["cases"])


def test_compiler_caches_travel_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in caches.FOLDERS:
        monkeypatch.delenv(variable, raising=False)
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    out.mkdir()
    archive = out / caches.ARCHIVE
    caches.pack(first, archive)
    assert not archive.exists()
    caches.use(first)
    folder = Path(os.environ["TRITON_CACHE_DIR"])
    (folder / "kernel").mkdir(parents=True)
    (folder / "kernel" / "a.cubin").write_bytes(b"code")
    (folder / "large").write_bytes(os.urandom(2000))
    monkeypatch.setattr(caches, "MOST_BYTES", 1500)
    caches.pack(first, archive)
    caches.use(second, archive)
    assert [path.name for path in second.rglob("*") if path.is_file()] == ["a.cubin"]
    assert (second / "triton" / "kernel" / "a.cubin").read_bytes() == b"code"


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
  REG:255 STACK:16 SHARED:128 LOCAL:0 CONSTANT[0]:528
"""
    kernels = build.read_resources(text)
    assert [(kernel["architecture"], kernel["reg"], kernel["stack"]) for kernel in kernels] == [
        ("sm_80", 254, 0),
        ("sm_90", 255, 16),
    ]
    build.check_stacks(kernels)
    with pytest.raises(AssertionError, match="stack of more than 24 bytes"):
        build.check_stacks([{**kernels[1], "stack": 32}])


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
