"""Results of setup.py and tools/build_kernels.py, and their errors: one message, no traceback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from tools import build_kernels
from tools.build_kernels import Unit

PACKAGE = REPOSITORY / "paddle_flashmask"


def build(tmp_path: Path, code: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run setup.py build_ext after `code`, with its results under tmp_path."""
    arguments = ["setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    program = f"import runpy, sys\n{code}\nsys.argv = {arguments!r}\nrunpy.run_path('setup.py')"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_fails(result: subprocess.CompletedProcess, *parts: str) -> None:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


def test_missing_compiler(tmp_path) -> None:
    result = build(tmp_path, CXX="/nonexistent")
    assert_fails(result, "the C++ compiler '/nonexistent' was not found", "apt-get install g++", "CXX")


def test_missing_paddle(tmp_path) -> None:
    hide = (
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'paddle' else find(name, *rest)"
    )
    result = build(tmp_path, hide)
    assert_fails(result, "paddle is not importable by", "pip install paddlepaddle", "--no-build-isolation")


def test_missing_pybind11(tmp_path) -> None:
    result = build(tmp_path, "sys.modules['pybind11'] = None")
    assert_fails(result, "pybind11 is not importable: `pip install pybind11` first")


def test_wrong_cuda_requests(tmp_path) -> None:
    assert_fails(build(tmp_path, PFM_CUDA="yes"), "PFM_CUDA is 'yes', expected 0, 1 or auto")
    archs = ", ".join(build_kernels.CUDA_ARCHS)
    assert_fails(build(tmp_path, PFM_CUDA_ARCHS="75,90"), f"PFM_CUDA_ARCHS is '75,90', expected a list of {archs}")


def test_cuda_without_nvcc(tmp_path) -> None:
    result = build(tmp_path, PFM_CUDA="1", CUDA_HOME=str(tmp_path))
    assert_fails(
        result, "PFM_CUDA=1 asks for CUDA kernels, but nvcc was not found", "CUDA_HOME", "requirements/cuda.txt"
    )


def fake_toolkit(home: Path, release: str) -> Path:
    """Write an nvcc that knows its version only, and the runtime library beside it."""
    nvcc = home / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho Cuda compilation tools, release {release}, V{release}.89\n")
    nvcc.chmod(0o755)
    (home / "lib64").mkdir()
    (home / "lib64" / "libcudart_static.a").touch()
    return nvcc


def test_cuda_too_old(tmp_path) -> None:
    nvcc = fake_toolkit(tmp_path / "cuda", "12.5")
    result = build(tmp_path, PFM_CUDA="1", CUDA_HOME=str(tmp_path / "cuda"))
    assert_fails(result, f"{nvcc} is version 12.5, expected 12.6 or later: none before was tried")


def fake_paddle(tmp_path: Path, version: str, cuda: str) -> dict[str, str]:
    """Write a Paddle that only has a version, and return the environment that puts it first on Python's path."""
    folder = tmp_path / "site" / "paddle"
    (folder / "version").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "version" / "__init__.py").write_text(
        f"full_version = {version!r}\nmajor = {version.split('.')[0]!r}\ndef cuda():\n    return {cuda!r}\n"
    )
    return {"PYTHONPATH": str(folder.parent)}


def test_an_old_paddle_is_refused_by_name(tmp_path) -> None:
    result = build(tmp_path, **fake_paddle(tmp_path, "2.6.2", "12.0"))
    assert_fails(result, "Paddle 2.6.2 is installed, expected 3.0 or later")
    assert "compiling" not in result.stdout


def test_every_folder_of_a_wheel_is_read(tmp_path) -> None:
    fake_paddle(tmp_path / "new", "3.3.1", "False")
    fake_paddle(tmp_path / "old", "2.6.2", "False")
    folders = [str(tmp_path / name / "site" / "paddle") for name in ("new", "old")]
    assert_fails(build(tmp_path, PFM_PADDLES=os.pathsep.join(folders)), "Paddle 2.6.2 is installed, expected 3.0")


@pytest.mark.parametrize("release", ["", "12.5"])
def test_auto_fails_without_a_toolkit_beside_a_cuda_build_of_paddle(tmp_path, release) -> None:
    if release:
        fake_toolkit(tmp_path / "cuda", release)
    paddle = fake_paddle(tmp_path, "3.3.1", "12.6")
    result = build(tmp_path, PFM_CUDA="auto", CUDA_HOME=str(tmp_path / "cuda"), **paddle)
    why = f"is version {release}, expected 12.6 or later" if release else "nvcc was not found"
    assert_fails(result, "the installed Paddle is built for CUDA 12.6, but", why, "PFM_CUDA=0")
    assert "compiling" not in result.stdout


def test_auto_names_the_reason_why_cuda_is_off(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert build_kernels.wanted_cuda("auto") is None
    assert "no CUDA kernels in this build: nvcc was not found in CUDA_HOME" in capsys.readouterr().out
    assert build_kernels.wanted_cuda("0", paddle_cuda="12.6") is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("release", "archs"),
    [("12.6", ("80", "90")), ("12.8", ("80", "90")), ("12.9", ("80", "90", "90a")), ("13.0", ("80", "90", "90a"))],
)
def test_every_toolkit_builds_what_it_can(release, archs, capsys) -> None:
    toolkit = build_kernels.CudaToolkit(Path("nvcc"), release, Path("libcudart_static.a"))
    assert build_kernels.wanted_archs("", toolkit) == archs
    missing = f"the kernels of csrc/cuda/sm90 (90a) need CUDA 12.9, found {release}: ptxas before 12.9 serializes"
    assert (missing in capsys.readouterr().out) == ("90a" not in archs)
    assert build_kernels.wanted_archs("80,90", toolkit) == ("80", "90")
    assert capsys.readouterr().out == ""
    if "90a" not in archs:
        with pytest.raises(SystemExit, match=r"PFM_CUDA_ARCHS is '90a', but the kernels of csrc/cuda/sm90"):
            build_kernels.wanted_archs("90a", toolkit)


@pytest.fixture
def object_cache(tmp_path, monkeypatch):
    """ObjectCache under tmp_path, with a source and a header."""
    monkeypatch.setattr(build_kernels, "OBJECTS", tmp_path / "objects")
    monkeypatch.setattr(build_kernels, "ROOT", tmp_path)
    (tmp_path / "value.h").write_text("constexpr int kValue = 1;\n")
    (tmp_path / "unit.cc").write_text('#include "value.h"\nint value() { return kValue; }\n')
    return build_kernels.ObjectCache()


def test_objects_are_rebuilt_only_after_a_change(object_cache, tmp_path) -> None:
    source = tmp_path / "unit.cc"

    def compiled(flags=("-O1",)) -> tuple[Path, int]:
        result = object_cache.compile(Unit(source, ("g++", *flags)))
        return result, result.stat().st_mtime_ns

    first = compiled()
    assert compiled() == first
    source.touch()
    assert compiled() == first
    (tmp_path / "value.h").write_text("constexpr int kValue = 2;\n")
    second = compiled()
    assert second[0] == first[0] and second[1] > first[1]
    assert len(list(first[0].parent.glob("*.o"))) == 1  # no partial object is left
    assert compiled(["-O2"])[0] != first[0]


def test_a_copy_of_the_tree_keeps_its_objects(object_cache, tmp_path, monkeypatch) -> None:
    def compiled(root: Path) -> tuple[str, int]:
        monkeypatch.setattr(build_kernels, "ROOT", root)
        monkeypatch.setattr(build_kernels, "OBJECTS", root / "objects")
        result = object_cache.compile(Unit(root / "unit.cc", ("g++", f"-I{root}", f"-ffile-prefix-map={root}=.")))
        return result.name, result.stat().st_mtime_ns

    here = compiled(tmp_path)
    copy = shutil.copytree(tmp_path, tmp_path / "copy")
    assert compiled(copy) == here
    (tmp_path / "value.h").write_text("no such language\n")
    assert compiled(copy) == here  # the headers are those of the copy
    (copy / "value.h").write_text("constexpr int kValue = 2;\n")
    assert compiled(copy)[1] > here[1]


def test_the_output_of_the_compiler_is_kept(object_cache, tmp_path) -> None:
    (tmp_path / "unit.cc").write_text("#warning something to know\n")
    for _ in range(2):
        assert "something to know" in object_cache.log_of(object_cache.compile(Unit(tmp_path / "unit.cc", ("g++",))))


def test_a_compile_error_ends_the_build_with_the_file_name(object_cache, tmp_path, capsys) -> None:
    (tmp_path / "unit.cc").write_text("no such language\n")
    for _ in range(2):  # the failure must not be cached
        with pytest.raises(SystemExit, match=r"compiling unit.cc failed"):
            object_cache.compile(Unit(tmp_path / "unit.cc", ("g++", "-O1")))
        assert capsys.readouterr().err.startswith("g++ -O1 ")


def test_progress_is_printed(object_cache, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MAX_JOBS", "1")
    (tmp_path / "other.cc").write_text("int other;\n")
    object_cache.compile_all([Unit(tmp_path / name, ("g++",)) for name in ("unit.cc", "other.cc")])
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "paddle-flashmask: compiling 2 files, 1 at a time (MAX_JOBS)"
    assert [line.split(" (")[0] for line in rest] == ["[1/2] unit.cc", "[2/2] other.cc"]


def symbols(library: Path, kind: str) -> set[str]:
    listing = subprocess.run(["nm", "-D", f"--{kind}-only", str(library)], check=True, capture_output=True, text=True)
    return {line.split()[-1].split("@")[0] for line in listing.stdout.splitlines()}


def test_the_kernel_library_exports_the_c_abi_and_needs_neither_paddle_nor_python() -> None:
    header = (REPOSITORY / "csrc" / "flashmask.h").read_text()
    declared = set(re.findall(r"PFM_EXPORT [\w *]+?(pfm_\w+)\(", header))
    exported = {name for name in symbols(PACKAGE / "_kernels.so", "defined") if name not in ("_init", "_fini")}
    assert exported == declared
    foreign = [n for n in symbols(PACKAGE / "_kernels.so", "undefined") if n.startswith("Py") or "paddle" in n]
    assert not foreign


def test_the_build_names_its_kernels() -> None:
    from paddle_flashmask import _build_info, _library

    assert "portable" in _build_info.CPU_KERNELS
    assert _build_info.COMPILER
    assert bool(_build_info.CUDA_COMPILER) == bool(_library.cuda_architectures())


def units_for(archs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    toolkit = build_kernels.CudaToolkit(Path("nvcc"), "13.0", Path("libcudart_static.a"))
    units = build_kernels.cuda_units(toolkit, "g++", archs)
    return {str(unit.source.relative_to(REPOSITORY / "csrc" / "cuda")): unit.command for unit in units}


def test_sources_are_compiled_for_their_architectures() -> None:
    everything, without_90a = units_for(("80", "90", "90a")), units_for(("80", "90"))
    assert [part for part in everything["sm90/forward_host.cu"] if "gencode" in part] == [
        "-gencode=arch=compute_90a,code=sm_90a"
    ]
    for units in (everything, without_90a):
        assert [part for part in units["sm80/forward_host.cu"] if "gencode" in part] == [
            "-gencode=arch=compute_80,code=sm_80",
            "-gencode=arch=compute_90,code=sm_90",
            "-gencode=arch=compute_80,code=compute_80",
        ]
    assert not any(source.startswith("sm90/") for source in without_90a)
    assert "-DPFM_CUDA_BUILDS_SM90=1" in everything["dispatch.cu"]
    assert "-DPFM_CUDA_BUILDS_SM90=0" in without_90a["dispatch.cu"]
    assert '-DPFM_CUDA_ARCHITECTURES="sm_80 sm_90 sm_90a compute_80"' in everything["dispatch.cu"]
    assert '-DPFM_CUDA_ARCHITECTURES="sm_80 sm_90 compute_80"' in without_90a["dispatch.cu"]
    assert all("-lineinfo" in command for command in everything.values())


@pytest.mark.parametrize(
    "warning",
    [
        "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...",
        "ptxas warning : setmaxnreg ignored to maintain minimum register requirements.",
        "ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored to maintain minimum registers",
    ],
)
def test_a_warning_of_slow_code_fails_the_build(object_cache, tmp_path, warning) -> None:
    (tmp_path / "unit.cc").write_text(f"#warning {warning}\n")
    refused = Unit(tmp_path / "unit.cc", ("g++",), refused=build_kernels.SLOW_WGMMA)
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"compiling unit.cc failed: the compiler printed"):
            object_cache.compile(refused)
    assert not list((tmp_path / "objects").glob("*.o"))
    object_cache.compile(Unit(tmp_path / "unit.cc", ("g++",)))
