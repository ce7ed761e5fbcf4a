"""Every hardware primitive, on the GPU against its emulated body: tests/emulator/conformance."""

from __future__ import annotations

import shutil
import subprocess
import sys

from .outcome import Case, NotRun
from .plan import REPOSITORY, Settings

SCRIPT = "tests/emulator/conformance/run.py"
_SECONDS = 200


def cases(settings: Settings) -> list[Case]:
    return [Case("device against emulated primitives", conform)]


def conform() -> dict[str, str]:
    if not (REPOSITORY / SCRIPT).is_file():
        raise NotRun(f"{SCRIPT} does not exist in this tree")
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    command = [sys.executable, SCRIPT, "--nvcc", nvcc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=REPOSITORY, check=False)
    output = done.stdout + done.stderr
    print(output)
    assert done.returncode == 0, f"{SCRIPT} ended with {done.returncode}: {output[-2000:]}"
    return {"last_line": output.strip().splitlines()[-1] if output.strip() else ""}
