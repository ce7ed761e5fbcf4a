"""Primitives of csrc/cuda/ptx/ptx.h in the emulator against plain C++. tests/emulator/conformance/run.py compares the
same results with those of a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tools import build_kernels

CONFORMANCE = Path(__file__).resolve().parent / "conformance"
PROBES = [
    "places",
    "shared_moves",
    "global_moves",
    "atomics",
    "chain",
    "copies",
    "barriers",
    "lanes",
    "matrices",
    "products",
    "functions",
    "maximum",
    "conversions",
]
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")


def load_run():
    specification = importlib.util.spec_from_file_location("conformance_run", CONFORMANCE / "run.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conformance") / "program"
    load_run().build_emulated(path, WARNINGS)
    return path


def test_every_probe_is_listed(program: Path) -> None:
    assert subprocess.run([program, "list"], capture_output=True, text=True).stdout.split() == PROBES


@pytest.mark.parametrize("probe", PROBES)
def test_primitive(program: Path, probe: str) -> None:
    done = subprocess.run([program, "check", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_primitive_has_a_probe() -> None:
    """Every primitive declared in ptx.h is called by name in a probe."""
    declarations = (CONFORMANCE.parents[2] / "csrc" / "cuda" / "ptx" / "ptx.h").read_text()
    words = [line for line in declarations.splitlines() if line.startswith("PFM_DEVICE inline")]
    names = {line.split("(")[0].split()[-1] for line in words}
    assert len(names) > 30
    probes = "".join(path.read_text() for path in CONFORMANCE.glob("*.h"))
    assert sorted(name for name in names if f"ptx::{name}" not in probes) == []


def test_results_are_compared_by_their_rule(tmp_path: Path) -> None:
    run = load_run()
    words, other = run.np.array([1, 2], run.np.uint32), run.np.array([1, 3], run.np.uint32)
    assert run.compare(words, words, None)["agrees"]
    assert not run.compare(words, other, None)["agrees"]
    values, others = (run.np.array(pair, run.np.float32).view(run.np.uint32) for pair in ([1, 2], [1, 2.5]))
    assert run.compare(values, others, run.np.array([0, 0.3], run.np.float32))["agrees"]
    assert not run.compare(values, others, run.np.array([0, 0.2], run.np.float32))["agrees"]


def test_emulated_only_report(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, CONFORMANCE / "run.py", "--emulated-only", "--output", report]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"compared_with_gpu": false' in report.read_text()


def test_probes_compile_for_a_gpu(tmp_path: Path) -> None:
    toolkit, reason = build_kernels.find_cuda()
    if toolkit is None:
        pytest.skip(reason)
    load_run().build_for_gpu(tmp_path / "program", str(toolkit.nvcc))
