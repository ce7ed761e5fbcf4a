"""Hardware primitives on the GPU: all against their emulated bodies (tests/emulator/conformance), and those of compute
capability 9.0 against plain C++ (tests/emulator/sm90)."""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from pathlib import Path

from support.repository import REPOSITORY

from .outcome import Case, NotRun
from .plan import Settings
from .processes import run_program

SCRIPT = "tests/emulator/conformance/run.py"
# Programs of tests/emulator/sm90 and their arguments; "none" selects the product without a mistake.
SM90_PROGRAMS = {"program": ("none", "0"), "layouts": (), "copies": ()}
_SECONDS = 60.0


def cases(settings: Settings) -> list[Case]:
    found = [Case("device against emulated primitives", conform, _SECONDS)]
    for name, arguments in SM90_PROGRAMS.items():
        check = functools.partial(run_sm90, name, arguments)
        found.append(Case(f"primitives of 9.0: {name}", check, _SECONDS))
    return found


def run_sm90(name: str, arguments: tuple[str, ...]) -> None:
    """Compile and run one program, which prints its findings and is silent if all is well."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / name
        command = [nvcc, "-std=c++17", "-O2", "-gencode=arch=compute_90a,code=sm_90a", "-Icsrc", "-Itests"]
        command += [f"tests/emulator/sm90/{name}.cu", "-o", str(program)]
        for step in (command, [str(program), *arguments]):
            done = run_program(step, _SECONDS)
            output = done.stdout
            assert done.returncode == 0, f"{' '.join(step)} ended with {done.returncode}: {output[-2000:]}"
    assert not output.strip(), output[-2000:]


def conform() -> dict[str, str]:
    if not (REPOSITORY / SCRIPT).is_file():
        raise NotRun(f"{SCRIPT} does not exist in this tree")
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    command = [sys.executable, SCRIPT, "--nvcc", nvcc]
    done = run_program(command, _SECONDS)
    output = done.stdout
    print(output)
    assert done.returncode == 0, f"{SCRIPT} ended with {done.returncode}: {output[-2000:]}"
    return {"last_line": output.strip().splitlines()[-1] if output.strip() else ""}
