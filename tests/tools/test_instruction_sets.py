"""Object files compiled for an instruction set: no code of theirs may run without it."""

from __future__ import annotations

import re
import subprocess

import pytest

from tools import build_kernels
from tools.build_kernels import Unit

UNITS = [unit for unit in build_kernels.cpu_units("g++") if build_kernels.isa_of(unit.source)]
TABLES = {
    "tile_kernels_avx2": {f"pfm::cpu::kAvx2{table}" for table in ("Pack", "Products", "Rows", "Softmax")},
    "tile_kernels_avx512": {f"pfm::cpu::kAvx512{table}" for table in ("Products", "Rows", "Softmax")},
}


@pytest.mark.skipif(not build_kernels.IS_X86_64, reason="these files are compiled for x86-64 only")
def test_every_instruction_set_is_known_here():
    assert {unit.source.stem for unit in UNITS} == set(TABLES)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.source.stem)
def test_only_tables_and_code_of_its_own_leave_the_file(unit: Unit):
    """The rest of the library may read tables from the file, but must not link to its functions: neither to an exported
    one nor to an inline one shared with other files, of which the linker keeps any copy."""
    compiled = build_kernels.ObjectCache().compile(unit)
    listed = subprocess.run(
        ["nm", "--demangle", "--defined-only", "--extern-only", compiled], check=True, capture_output=True, text=True
    ).stdout
    symbols = [line.split(" ", 2)[1:] for line in listed.splitlines()]
    simd = unit.source.stem.rpartition("_")[2].capitalize()
    shared = [name for kind, name in symbols if kind in "WVu" and not re.search(rf"\b{simd}\b", name)]
    assert shared == []
    assert {name for kind, name in symbols if kind not in "WVu"} == TABLES[unit.source.stem]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.source.stem)
def test_nothing_runs_when_the_library_is_loaded(unit: Unit):
    compiled = build_kernels.ObjectCache().compile(unit)
    sections = subprocess.run(["readelf", "-SW", compiled], check=True, capture_output=True, text=True).stdout
    assert ".init_array" not in sections and ".ctors" not in sections
