"""Programs of the host parts of csrc/cuda, compiled for the emulator."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools import build_kernels


def compile_program(folder: Path, source: str) -> Path:
    """Return the path of the program with this C++ source, which may include headers of csrc."""
    path, program = folder / "program.cc", folder / "program"
    path.write_text(source)
    include = [f"-I{build_kernels.ROOT / name}" for name in ("csrc", "tests")]
    flags = ["-std=c++17", "-DPFM_EMULATOR", "-Wno-unknown-pragmas", *include]
    subprocess.run([build_kernels.find_compiler(), *flags, path, "-o", program], check=True)
    return program


def lines_of(program: Path, *arguments: int) -> list[tuple[int, ...]]:
    """Return the integers on each line that the program prints."""
    command = [program, *map(str, arguments)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [tuple(map(int, line.split())) for line in lines]
