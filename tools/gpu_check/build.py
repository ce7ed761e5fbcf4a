"""Build of the kernel library, and the registers and memory of its kernels."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

from .outcome import Case, NotRun
from .plan import Settings
from .processes import find_program, run_program

ARCHITECTURES = "80,90,90a"
_BUILD_SECONDS = 400.0
_KNOWN_STACK = 24  # bytes that nvcc 13.0 spills in kernels compiled from csrc/cuda/sm80


def cases(settings: Settings) -> list[Case]:
    found = [Case("library", lambda: build(settings), _BUILD_SECONDS)]
    if not settings.emulated:
        found.append(Case("registers and spills", lambda: resources(settings), 60.0))
    return found


def build(settings: Settings) -> dict[str, Any]:
    options = ["--emulated"] if settings.emulated else ["--cuda", "1", "--cuda-archs", ARCHITECTURES]
    command = [sys.executable, "tools/build_kernels.py", str(settings.library), *options]
    done = run_program(command, _BUILD_SECONDS, echo=True)
    output = done.stdout
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {output[-2000:]}"
    return {"command": command[1:], "bytes": settings.library.stat().st_size}


def resources(settings: Settings) -> dict[str, Any]:
    """Registers and stack of each kernel. Spills are part of the stack, and more than is known is a failure."""
    program = find_program("cuobjdump")
    if not program:
        raise NotRun("cuobjdump was not found")
    command = [program, "--dump-resource-usage", str(settings.library)]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    print(text)
    kernels = read_resources(text)
    assert kernels, "the library has no kernels"
    check_stacks(kernels)
    return {"kernels": kernels}


def check_stacks(kernels: list[dict[str, Any]]) -> None:
    spilling = [kernel for kernel in kernels if kernel["stack"] > _KNOWN_STACK]
    assert not spilling, f"kernels with a stack of more than {_KNOWN_STACK} bytes: {spilling}"


def read_resources(text: str) -> list[dict[str, Any]]:
    """Parse `cuobjdump --dump-resource-usage`: `Function NAME:` and `REG:n STACK:n ...` under each `arch = sm_xx`."""
    kernels, architecture, name = [], "", ""
    for line in text.splitlines():
        if found := re.search(r"\barch = (\w+)", line):
            architecture = found[1]
        elif found := re.search(r"Function ([^:]+):", line):
            name = found[1].strip()
        elif "REG:" in line and name:
            numbers = {key.lower(): int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", line)}
            kernels.append({"architecture": architecture, "name": _demangle(name), **numbers})
            name = ""
    return kernels


def _demangle(name: str) -> str:
    if not shutil.which("c++filt"):
        return name
    return subprocess.run(["c++filt", name], capture_output=True, text=True, check=False).stdout.strip() or name
