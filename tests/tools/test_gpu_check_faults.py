"""tools/gpu_check on cases with planted faults, without a GPU: each fault costs its own case alone."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import faulty_cases
import pytest
from support import fake_programs
from support.library import Kernels
from support.repository import REPOSITORY, python_environment

from tools.gpu_check import hang, plan, processes, runner
from tools.gpu_check.outcome import FAILED, NOT_RUN, PASSED

HERE = Path(__file__).parent


def start(out: Path, kernels: Kernels, *arguments: str) -> subprocess.Popen[bytes]:
    """The tool with the faulty part, over a fake driver and the CPU kernels."""
    fake_programs.build_driver(out / faulty_cases.DRIVER)
    environment = python_environment() | {"OUT": str(out), "GPU_CHECK_COMMIT": "0123abc", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] += f":{HERE}"
    command = [sys.executable, "-m", "faulty_cases", "--emulated", "--library", str(kernels.path), *arguments]
    return subprocess.Popen([*command, faulty_cases.PART], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)


def cases_of(out: Path) -> dict[str, dict[str, Any]]:
    (part,) = json.loads((out / "gpu_check.json").read_text())["parts"]
    return {case["name"]: case for case in part["cases"]}


def journal_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Any, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, kernels: Kernels) -> Path:
    folder = tmp_path_factory.mktemp("gpu_check")
    assert start(folder, kernels).wait(300) == 1
    return folder


def test_each_fault_costs_its_own_case(out: Path) -> None:
    found = cases_of(out)
    assert list(found) == [case.name for case in faulty_cases.cases(None)]
    faults = {
        "hangs": "was killed at its limit",
        "corrupts its context": "the GPU context was lost: DeviceLost: cuMemAlloc_v2 returned 700",
        "wrong values": "out: error",
        "crashes": "died of signal 11",
        "hangs again": "was killed at its limit",
    }
    for name, case in found.items():
        if name in faults:
            assert case["outcome"] == FAILED and faults[name] in case["detail"], case
        elif name == "would hang a third time":
            assert case["outcome"] == NOT_RUN and "is quarantined" in case["detail"]
        else:
            assert case["outcome"] == PASSED, case


def test_the_journal_agrees_with_the_json(out: Path) -> None:
    finished = [entry["finished"] for entry in journal_of(out) if "finished" in entry]
    assert {case["name"]: case for case in finished} == cases_of(out)


def test_the_log_names_the_case_of_a_picture(out: Path) -> None:
    log = (out / "test.log").read_text()
    assert "== hangs was killed at its limit" in log and "== hangs again was killed at its limit" in log


def test_a_wrong_result_is_located_by_tile(out: Path) -> None:
    detail = cases_of(out)["wrong values"]["detail"]
    assert "out: 2 of 4 tiles of 64 x 64 are wrong" in detail and "rows 64-69" in detail


def test_nothing_that_a_case_started_survives(out: Path) -> None:
    pids = [int(line) for line in (out / faulty_cases.PIDS).read_text().split()]
    assert len(pids) == 4
    assert [pid for pid in pids if is_alive(pid)] == []


def test_what_was_done_stays_when_the_tool_is_killed(tmp_path: Path, kernels: Kernels) -> None:
    tool = start(tmp_path, kernels)
    started = tmp_path / faulty_cases.PIDS
    # The second case hangs, and the first one is recorded.
    assert wait_until(lambda: started.exists() and "right first" in (tmp_path / "gpu_check.json").read_text())
    tool.kill()
    tool.wait()
    found = cases_of(tmp_path)
    assert {name: case["outcome"] for name, case in found.items()} == {"right first": PASSED}
    assert journal_of(tmp_path)[-1] == {"part": "faulty", "started": "hangs"}
    (pid,) = map(int, started.read_text().split())
    assert wait_until(lambda: not is_alive(pid)), "the case outlived the tool"


def test_a_terminated_tool_ends_its_cases(tmp_path: Path, kernels: Kernels) -> None:
    tool = start(tmp_path, kernels, "--only", "^hangs$")
    assert wait_until((tmp_path / faulty_cases.PIDS).exists)
    tool.terminate()
    assert tool.wait(30) == 143
    assert not is_alive(int((tmp_path / faulty_cases.PIDS).read_text()))


def test_the_files_of_an_earlier_run_are_kept(tmp_path: Path, kernels: Kernels) -> None:
    (tmp_path / "test.log").write_text("earlier")
    (tmp_path / "caches.tar.gz").write_text("of the peers")
    for _ in range(2):
        assert start(tmp_path, kernels, "--only", "right first").wait(60) == 0
    with tarfile.open(tmp_path / "previous-1.tar.gz") as archive:
        assert archive.extractfile("test.log").read() == b"earlier"
    with tarfile.open(tmp_path / "previous-2.tar.gz") as archive:
        assert set(archive.getnames()) == {"gpu_check.json", "journal.jsonl", "test.log"}
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    runs = {"previous-1.tar.gz", "previous-2.tar.gz"}
    assert files == {"gpu_check.json", "journal.jsonl", "test.log", "caches.tar.gz"} | runs


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder at the front of PATH, beside the system's programs only."""
    monkeypatch.setattr(processes, "_CUDA_PROGRAMS", tmp_path / "none")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_hung_kernel_is_shown_by_the_debugger(tmp_path: Path, programs: Path) -> None:
    fake_programs.put_on_path(programs, "cuda-gdb", 'echo "kernels of" "$@"')
    with (tmp_path / "log").open("w") as log:
        hang.dump(4711, tmp_path, tmp_path, log)
    text = (tmp_path / "log").read_text()
    assert "-p 4711" in text and "info cuda threads" in text


def test_a_debugger_that_hangs_leaves_what_it_wrote(tmp_path: Path, programs: Path, monkeypatch) -> None:
    monkeypatch.setattr(hang, "_SECONDS", 0.5)
    fake_programs.put_on_path(programs, "cuda-gdb", "echo kernel 0 of Forward; sleep 60")
    with (tmp_path / "log").open("w") as log:
        hang.dump(4711, tmp_path, tmp_path, log)
    text = (tmp_path / "log").read_text()
    assert text.startswith("no picture of the hung kernel: ") and text.endswith("kernel 0 of Forward\n\n")


# What the driver does for a user-triggered core dump.
DRIVER = """
import os, time
pipe, core = (os.environ[name].replace("%p", str(os.getpid())) for name in ("CUDA_COREDUMP_PIPE", "CUDA_COREDUMP_FILE"))
os.mkfifo(pipe)
with open(pipe, "rb") as asked:
    assert asked.read(1)
with open(core, "wb") as file:
    for part in range(3):
        file.write(b"part")
        file.flush()
        time.sleep(0.2)
time.sleep(60)
"""


def test_a_hung_kernel_leaves_a_core_dump_that_the_debugger_reads(tmp_path: Path, programs: Path) -> None:
    fake_programs.put_on_path(programs, "cuda-gdb", 'echo "debugger:" "$@"')
    variables = hang.environment(tmp_path)
    assert variables["CUDA_ENABLE_USER_TRIGGERED_COREDUMP"] == "1"
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([sys.executable, "-c", DRIVER], env=variables) as hung, (tmp_path / "log").open("w") as log:
        pipe = tmp_path / f"hang.{hung.pid}.pipe"
        assert wait_until(pipe.exists)
        hang.dump(hung.pid, tmp_path, out, log)
        hung.kill()
    core = tmp_path / f"hang.{hung.pid}.nvcudmp"
    assert core.read_bytes() == b"part" * 3
    found, shown = (tmp_path / "log").read_text().splitlines()
    assert found == f"core dump of the GPU: {core.name}, 12 bytes" and f"target cudacore {core}" in shown
    with tarfile.open(out / hang.ARCHIVE) as archive:
        packed = archive.extractfile(f"{core.name}.gz")
        assert packed and gzip.decompress(packed.read()) == b"part" * 3
    assert [path.name for path in out.iterdir()] == [hang.ARCHIVE]


def test_a_process_that_dies_is_no_obstacle_to_the_picture(tmp_path: Path, programs: Path) -> None:
    os.mkfifo(tmp_path / "hang.4711.pipe")  # nobody reads it
    with (tmp_path / "log").open("w") as log:
        hang.dump(4711, tmp_path, tmp_path, log)
        hang.dump(4712, tmp_path, tmp_path, log)  # a process without CUDA
    assert (tmp_path / "log").read_text().startswith("no picture of the hung kernel: ")


def test_the_debugger_is_prepared_for_after_a_hang_only(tmp_path: Path) -> None:
    tried = runner.Runner()
    tests, sanitized, timed = (plan.Settings(name, tmp_path, tmp_path) for name in ("ladder", "sanitize", "bench"))
    assert tried._debugging(tests) == {}
    tried.hangs["9.0 forward D128,128"] += 1
    assert "CUDA_COREDUMP_PIPE" in tried._debugging(tests)
    assert tried._debugging(sanitized) == tried._debugging(timed) == {}
