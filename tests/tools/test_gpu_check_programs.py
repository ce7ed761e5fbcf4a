"""Programs that tools/gpu_check and benchmarks/gpu start, and those that they are: each runs on stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest
from support import fake_programs
from support.compare import Expectation
from support.emulated import emulated_library
from support.library import DEVICE_ERROR, KernelError, Kernels, Params
from support.problem import Problem
from support.repository import REPOSITORY, python_environment

from benchmarks.gpu import load, profile, profile_driver
from tools.gpu_check import (
    build,
    conformance,
    device,
    failed_launch,
    grid,
    ladder,
    machine,
    processes,
    sanitize,
    sanitize_driver,
)
from tools.gpu_check.outcome import FAILED, NOT_RUN, PASSED, Case, DeviceLost, NotRun, run_case
from tools.gpu_check.plan import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings("test", emulated_library(), tmp_path)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder at the front of PATH, beside the system's programs only."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(processes, "_CUDA_PROGRAMS", tmp_path / "none")
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_programs.build_driver(tmp_path_factory.mktemp("driver") / "libcuda.so")


@pytest.fixture
def gpu(driver: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> device.CudaDevice:
    """A GPU of 9.0 with emulated kernels, through the driver's functions."""
    monkeypatch.setattr(device, "_DRIVERS", (str(driver),))
    fake_programs.emulate(driver, settings.library)
    return device.CudaDevice(settings.library)


# --- The driver API over the emulated kernels


def test_both_generations_are_right_on_device_memory(gpu: device.CudaDevice, settings: Settings) -> None:
    choice = {"kind": "causal_document", "size": (70, 90), "dims": (64, 64), "heads": (2, 1, 1)}
    name = "000 small"
    checks = grid.Checks(settings)
    for generation in device.KERNELS_OF_90:
        for direction in grid.DIRECTIONS:
            checks.check(name, choice, generation, direction)
    with pytest.raises(NotRun, match="do not take this problem"):
        checks.check("001 dropout", choice | {"dropout": 0.1}, 90, "forward")
    ladder.check(settings, 90, (64, 64), ladder.FORWARD_RUNGS[0])


def test_bad_arguments_are_refused(gpu: device.CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    grid.refusals(gpu)
    monkeypatch.setattr(Kernels, "forward", lambda kernels, params: None)
    with pytest.raises(AssertionError, match="accepted, expected an error"):
        grid.refusals(gpu)


@pytest.mark.parametrize("tool", ["memcheck", "initcheck"])
def test_the_driver_of_the_sanitizer_is_right(
    tool: str, gpu: device.CudaDevice, settings: Settings, monkeypatch, capsys
):
    small = {"size": (70, 90), "heads": (2, 1, 1)}
    name = next(name for name, choice in sanitize_driver.CASES.items() if choice["dims"] == (64, 64))
    monkeypatch.setitem(sanitize_driver.CASES, name, sanitize_driver.CASES[name] | small)
    monkeypatch.setattr(sys, "argv", ["sanitize_driver", str(settings.library), name, tool])
    sanitize_driver.main()
    assert "results are right" in capsys.readouterr().out


def test_the_driver_of_the_profiler_runs(gpu: device.CudaDevice, settings: Settings, monkeypatch) -> None:
    monkeypatch.setattr(profile_driver, "SEQLEN", 128)
    monkeypatch.setattr(profile_driver, "HEADS", 1)
    for kernel in profile_driver.KERNELS:
        monkeypatch.setattr(sys, "argv", ["profile_driver", str(settings.library), "causal_document", "64", kernel])
        profile_driver.main()


def test_a_failed_launch_surfaces(gpu: device.CudaDevice, settings: Settings, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["failed_launch", str(settings.library)])
    launches: list[int] = []

    def forward(kernels: Kernels, params: Params) -> None:
        assert params.query.data == failed_launch.UNMAPPED and params.workspace_size > 0
        launches.append(1)
        if len(launches) > 1:
            raise KernelError("pfm_forward", DEVICE_ERROR, "unspecified launch failure")

    def lost(gpu: device.CudaDevice) -> None:
        raise DeviceLost("700")

    monkeypatch.setattr(Kernels, "forward", forward)
    with pytest.raises(SystemExit, match="without an error"):
        failed_launch.main()
    launches.clear()
    monkeypatch.setattr(device.CudaDevice, "synchronize", lost)
    failed_launch.main()
    assert capsys.readouterr().out.count("as intended") == 2
    launches.clear()
    monkeypatch.setattr(Kernels, "forward", lambda kernels, params: None)
    with pytest.raises(SystemExit, match="returned without an error"):
        failed_launch.main()
    launches.append(1)

    def refused(kernels: Kernels, params: Params) -> None:
        launches.append(1)
        if len(launches) > 2:
            raise KernelError("pfm_forward", DEVICE_ERROR, "")

    monkeypatch.setattr(Kernels, "forward", refused)
    with pytest.raises(SystemExit, match="expected 4: ''"):
        failed_launch.main()


def test_the_program_of_a_failed_launch_is_started(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])
    with pytest.raises(AssertionError, match=r"(?s)status 1: .*no GPU driver"):
        grid.failed_launch(settings)


def test_the_cpu_kernels_of_the_library_are_checked(settings: Settings) -> None:
    emulated = device.EmulatedDevice(settings.library)
    assert grid.has_cpu_kernels(emulated)
    without = types.SimpleNamespace(kernels=types.SimpleNamespace(_library=object()))
    with pytest.raises(NotRun, match="no CPU kernels"):
        grid.compare(without, Expectation(Problem()), grid.CPU, "both")
    assert list(emulated.newest_kernels()) == [90, 80]
    emulated.kernels.configure(seed=1, compute_capability=80)
    assert list(emulated.newest_kernels()) == [80]
    with pytest.raises(NotRun, match="compute capability 8.0"), device.with_generation(emulated.kernels, 90):
        pass


# --- Programs on PATH


def test_sanitizers_are_started_with_their_tool(settings: Settings, programs: Path) -> None:
    case = sanitize.cases(settings)[0]
    assert "compute-sanitizer was not found" in run_case(case).detail
    line = 'echo "$@"; echo "results are right"; echo "========= ERROR SUMMARY: 0 errors"'
    fake_programs.put_on_path(programs, "compute-sanitizer", line)
    assert run_case(case).outcome == PASSED
    fake_programs.put_on_path(programs, "compute-sanitizer", 'echo "args: $@"; exit 99')
    detail = run_case(case).detail
    assert "--tool memcheck" in detail and "tools.gpu_check.sanitize_driver" in detail and "no dropout" in detail


def test_the_output_of_a_program_is_known_before_it_ends(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = fake_programs.put_on_path(programs, "slow", "echo begun; sleep 60")
    with pytest.raises(processes.TimedOut, match="its output ends with: begun"):
        processes.run_program([slow], 0.3, echo=True)
    assert capsys.readouterr().out == "begun\n"


def test_advisory_tools_do_not_fail_the_9_0_kernels(settings: Settings, programs: Path) -> None:
    fake_programs.put_on_path(programs, "compute-sanitizer", 'echo "results are right"; exit 99')
    found = {case.name: run_case(case) for case in sanitize.cases(settings)}
    on_90, on_80 = "head_dim 128, no dropout", "head_dim 128, holes"
    assert found[f"racecheck: {on_90}"].outcome == NOT_RUN and "advisory" in found[f"racecheck: {on_90}"].detail
    assert {found[f"{tool}: {on_80}"].outcome for tool in sanitize.TOOLS} == {FAILED}
    assert found[f"memcheck: {on_90}"].outcome == found[f"synccheck: {on_90}"].outcome == FAILED
    assert next(iter(found)) == f"memcheck: {on_90}"


def test_the_library_is_built_and_its_kernels_listed(settings: Settings, programs: Path, monkeypatch) -> None:
    library, resources = build.cases(settings)
    calls = []
    monkeypatch.setattr(build, "run_program", lambda command, *_, **__: calls.append(command) or Done(0, "built"))
    assert run_case(library).figures["bytes"] > 0 and "--cuda" in calls[0]
    assert run_case(build.cases(Settings("build", settings.library, settings.out, emulated=True))[0]).outcome == PASSED
    assert "--emulated" in calls[1]
    monkeypatch.setattr(build, "run_program", lambda *_, **__: Done(1, "error: no such header"))
    assert "no such header" in run_case(library).detail
    assert "cuobjdump was not found" in run_case(resources).detail
    text = "arch = sm_90\n Function _Z8Backwardv:\n  REG:255 STACK:16 SHARED:128 LOCAL:0"
    fake_programs.put_on_path(programs, "cuobjdump", f'cat <<"END"\n{text}\nEND')
    assert run_case(resources).figures["kernels"][0]["reg"] == 255
    fake_programs.put_on_path(programs, "c++filt", "echo 'Backward()'")
    assert run_case(resources).figures["kernels"][0]["name"] == "Backward()"


class Done:
    def __init__(self, returncode: int, stdout: str) -> None:
        self.returncode, self.stdout = returncode, stdout


def test_primitives_are_compiled_and_run(settings: Settings, programs: Path, monkeypatch) -> None:
    program, *_, device_case = conformance.cases(Settings("conformance", programs / "kernels.so", settings.out))
    # nvcc that makes a program without output
    nvcc = fake_programs.put_on_path(
        programs, "nvcc", 'for out; do :; done; printf "#!/bin/sh\\n$SAYS\\n" > "$out"; chmod +x "$out"'
    )
    monkeypatch.setattr(conformance, "REPOSITORY", programs)
    toolkit = conformance.build_kernels.CudaToolkit(nvcc, "13.0", programs / "libcudart_static.a")
    monkeypatch.setattr(conformance.build_kernels, "find_cuda", lambda: (toolkit, ""))
    assert run_case(program).outcome == PASSED
    monkeypatch.setenv("SAYS", "echo wrong at 3")
    assert "wrong at 3" in run_case(program).detail
    monkeypatch.setenv("SAYS", "exit 4")
    assert "ended with 4" in run_case(program).detail
    fake_programs.put_on_path(programs, "primitives_program", "echo built beforehand").chmod(0o644)
    assert "built beforehand" in run_case(program).detail
    monkeypatch.setattr(conformance, "REPOSITORY", REPOSITORY)
    monkeypatch.setattr(conformance, "run_program", lambda *_, **__: Done(0, "32 probes agree\n"))
    assert run_case(device_case).figures == {"last_line": "32 probes agree"}
    monkeypatch.setattr(conformance, "SCRIPT", "tests/no/such.py")
    assert run_case(device_case).outcome == NOT_RUN


def test_the_machine_is_described(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = "NVIDIA H200, 580.1, 143771, 700.00, 1980, 345, 30, 75.5"
    fake_programs.put_on_path(programs, "nvidia-smi", f'echo "{values}"')
    fake_programs.put_on_path(programs, "nvcc", "echo nvcc; echo release 13.0")
    described = machine.describe()
    assert described["gpu"]["name"] == "NVIDIA H200" and described["gpu"]["clocks.max.sm"] == "1980"
    assert described["nvcc"] == "release 13.0" and described["packages"]["numpy"]
    monkeypatch.delenv(machine.COMMIT_VARIABLE, raising=False)
    assert machine.commit()
    fake_programs.put_on_path(programs, "nvidia-smi", "exit 9")
    assert machine.describe()["gpu"] is None
    monkeypatch.setattr(machine, "_SECONDS", 0.1)
    fake_programs.put_on_path(programs, "nvidia-smi", "sleep 60")
    assert machine.describe()["gpu"] is None


def test_the_load_of_the_gpu_is_sampled(programs: Path) -> None:
    with load.LoadSampler() as absent:
        assert absent.median_since(0.0) == {}
    script = 'echo "$@" > arguments; echo "1700, 650.5, 61"; echo "1710, [N/A], 61"; echo "1720, 651.5, 63"; sleep 60'
    fake_programs.put_on_path(programs, "nvidia-smi", f"cd {programs}; {script}")
    with load.LoadSampler() as sampler:
        while sampler.median_since(0.0).get("temperature.gpu") != 62.0:
            pass
        assert sampler.median_since(0.0) == {"clocks.sm": 1710.0, "power.draw": 651.0, "temperature.gpu": 62.0}
    assert "--loop-ms=200" in (programs / "arguments").read_text()


NCU = """
case "$1$2" in
--query-metrics) echo "sm__pipe_tensor_cycles_active                 Counter"; exit;;
--import*) case "$4" in
  details) echo "  void pfm::cuda::sm90::Forward<a>(b) (132, 1, 1)x(384, 1, 1), Context 1, Stream 7, Device 0, CC 9.0"
    echo "    Duration                         ms         1.25"
    echo "    sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active     %    71.50"; echo "$@" > details;;
  source) echo '"#","Source","Warp Stall Sampling (All Samples)","stall_wait","stall_wait_not_issued"'
    echo '"0","  HGMMA R1","1,200","1000","1"'; echo '"1","  BRA","30","7","2"'; echo "$@" > source;; esac; exit;;
esac
echo "$@" > run; for word; do case "$word" in *.ncu-rep) echo report > "$word";; esac; done
"""


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(profile, "REPORTS", tmp_path / "reports")
    return profile.REPORTS


def test_the_profiler_keeps_metrics_stalls_and_the_source(settings: Settings, programs: Path, reports: Path) -> None:
    settings = Settings("profile", settings.library, settings.out / "out")
    settings.out.mkdir()
    listed = profile.cases(settings)
    assert len(listed) == 8 and len({case.name.split()[0] for case in listed}) == 2
    assert "ncu was not found" in run_case(listed[0]).detail
    fake_programs.put_on_path(programs, "ncu", f"cd {programs}\n{NCU}")
    figures = run_case(listed[0]).figures
    (kernel,) = figures["profiled"]
    assert kernel["Duration"] == "1.25 ms" and kernel[profile.METRICS[0]] == "71.50 %"
    assert set(figures["unknown_metrics"]) == set(profile.METRICS[1:])
    assert figures["stalls"] == {"stall_wait": 1007}
    assert figures["instructions"][0] == {"instruction": "HGMMA R1", "samples": 1200}
    asked = (programs / "run").read_text()
    assert f"--metrics {profile.METRICS[0]} " in asked and "--section SourceCounters" in asked
    assert "--kernel-name regex:sm[89]0::Forward< " in asked and asked.strip().endswith("full 128 forward")
    assert "--print-details all" in (programs / "details").read_text() and "--csv" in (programs / "source").read_text()
    run_case(listed[1])
    assert (settings.out / profile.TEXT).read_text().count("== ") == 2
    with tarfile.open(settings.out / profile.ARCHIVE) as archive:
        assert {"forward-128-full.csv", "backward-128-full.ncu-rep"} <= set(archive.getnames())
    assert {path.name for path in settings.out.rglob("*")} == {profile.TEXT, profile.ARCHIVE}


def test_a_profiler_that_fails_is_told_from_one_without_counters(settings, programs: Path, reports: Path) -> None:
    case: Case = profile.cases(settings)[0]
    fake_programs.put_on_path(programs, "ncu", 'echo "$@"; echo "==ERROR== ERR_NVGPUCTRPERM"')
    result = run_case(case)
    assert result.outcome == NOT_RUN and "counters cannot be read" in result.detail
    fake_programs.put_on_path(programs, "ncu", 'echo "$@"; exit 3')
    result = run_case(case)
    assert result.outcome == FAILED and "benchmarks.gpu.profile_driver" in result.detail
    assert profile.read_stalls("no table") == {}


def test_peers_are_unpacked_once_all_parts_have_arrived(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("*.py", "gpu_check"))
    python = fake_programs.put_on_path(
        tmp_path, "python", f'case "$2" in zipfile | tarfile) exec {sys.executable} "$@";; esac; echo "$PYTHONPATH"'
    )
    bundle, cute = tmp_path / "build" / "gpu_bundle", tmp_path / "build" / "gpu_bundle_cute"
    (cute / "wheels").mkdir(parents=True)
    with zipfile.ZipFile(cute / "wheels" / "peer-1.0.whl", "w") as wheel:
        wheel.writestr("peer/__init__.py", os.urandom(40_000))
    bundle.mkdir()
    with tarfile.open(bundle / "peers.tar.xz", "w:xz") as archive:
        archive.add(cute / "wheels" / "peer-1.0.whl", "./peer/__init__.py")
    pack = f"cd {cute} && tar -c wheels | split -b 30000 - part- && rm -r wheels && mv part-ab later"
    subprocess.run(["sh", "-c", pack], check=True)

    def path() -> list[str]:
        script = [str(tmp_path / "tools" / "gpu_check.sh"), "first"]
        environment = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
        done = subprocess.run(["bash", *script], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip().split(":")

    site = tmp_path / "build" / "gpu_peers" / "site"
    assert path()[:3] == [str(tmp_path), str(tmp_path / "tests"), str(site)]
    assert (site / "peer" / "__init__.py").exists() and not (cute / "wheels").exists()
    assert [file.name for file in bundle.iterdir()] == ["peers.tar.xz"]
    (cute / "later").rename(cute / "part-ab")
    assert str(cute / "site" / "nvidia_cutlass_dsl" / "dsl_packages") in path()
    assert (cute / "site" / "peer" / "__init__.py").exists()
