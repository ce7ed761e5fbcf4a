"""Hardware primitives on the GPU: those of compute capability 9.0 against plain C++ (tests/emulator/sm90), then all
against their emulated bodies (tests/emulator/conformance).

python3 -m tools.gpu_check.conformance FOLDER compiles the programs of the former.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from support.repository import REPOSITORY

from tools import build_kernels

from .outcome import Case, NotRun
from .plan import Settings
from .processes import find_program, program_beside, run_program

SCRIPT = "tests/emulator/conformance/run.py"
# Programs of tests/emulator/sm90 and their arguments; "none" selects the product without a mistake.
SM90_PROGRAMS = {"program": ("none", "0"), "layouts": (), "copies": ()}
_SECONDS, _RUN_SECONDS = 60.0, 10.0


def cases(settings: Settings) -> list[Case]:
    found = []
    for name in SM90_PROGRAMS:
        check = functools.partial(run_sm90, settings, name)
        found.append(Case(f"primitives of 9.0: {name}", check, _SECONDS + _RUN_SECONDS))
    return [*found, Case("device against emulated primitives", conform, _SECONDS)]


def run_sm90(settings: Settings, name: str) -> None:
    """Run one program, which prints its findings and is silent if all is well. It lies beside the library, or is
    compiled now.
    """
    program = program_beside(settings.library, _file_of(name)) or build(name, REPOSITORY / "build")
    command = [str(program), *SM90_PROGRAMS[name]]
    done = run_program(command, _RUN_SECONDS, echo=True)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}"
    assert not done.stdout.strip(), done.stdout[-2000:]


def _file_of(name: str) -> str:
    return f"primitives_{name}"


def build(name: str, folder: Path) -> Path:
    toolkit = build_kernels.find_cuda()[0]
    if not toolkit:
        raise NotRun("nvcc was not found")
    program = folder / _file_of(name)
    program.parent.mkdir(parents=True, exist_ok=True)
    # pip's nvcc looks for libraries in lib64 only.
    command = [str(toolkit.nvcc), "-std=c++17", "-O2", "-lineinfo", "-gencode=arch=compute_90a,code=sm_90a"]
    command += ["-Icsrc", "-Itests", f"-L{toolkit.library.parent}"]
    command += [f"tests/emulator/sm90/{name}.cu", "-o", str(program)]
    done = run_program(command, _SECONDS, echo=True)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}"
    return program


def conform() -> dict[str, str]:
    if not (REPOSITORY / SCRIPT).is_file():
        raise NotRun(f"{SCRIPT} does not exist in this tree")
    nvcc = find_program("nvcc")
    if not nvcc:
        raise NotRun("nvcc was not found")
    command = [sys.executable, SCRIPT, "--nvcc", nvcc]
    done = run_program(command, _SECONDS, echo=True)
    output = done.stdout
    assert done.returncode == 0, f"{SCRIPT} ended with {done.returncode}: {output[-2000:]}"
    return {"last_line": output.strip().splitlines()[-1] if output.strip() else ""}


if __name__ == "__main__":
    for each in SM90_PROGRAMS:
        print(build(each, Path(sys.argv[1]).resolve()))
