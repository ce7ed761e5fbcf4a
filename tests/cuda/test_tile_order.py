"""Orders of tiles by the kernels of mask preparation, against the plain loops of csrc/core/order.h: from one tile to
more than a run of 32 per warp and more than one tile per thread."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import build_kernels

SOURCE = Path(__file__).resolve().parent / "tile_order.cc"
PREPARE = build_kernels.ROOT / "csrc" / "cuda" / "common" / "prepare.cu"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = build_kernels.find_compiler()
    machine = build_kernels.ROOT / "tests" / "emulator"
    units = build_kernels.emulated_units(compiler)
    wanted = [unit for unit in units if unit.source == PREPARE or unit.source.parent == machine]
    (prepare,) = (unit for unit in wanted if unit.source == PREPARE)
    objects = build_kernels.ObjectCache().compile_all(wanted)
    program = tmp_path_factory.mktemp("tile_order") / "program"
    subprocess.run([*prepare.command, SOURCE, "-x", "none", *objects, "-o", program], check=True)
    return program


@pytest.mark.parametrize("length", [1, 64, 2000, 3000, 40_000, 70_000])
def test_order(program: Path, length: int) -> None:
    """70 000 keys are 1094 tiles of 64."""
    done = subprocess.run([program, str(length), str(length % 7)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
