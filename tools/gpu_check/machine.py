"""Description of the machine: commit, GPU, driver, compiler and packages."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from typing import Any

from support.repository import REPOSITORY

from .processes import find_program, run_program

_SECONDS = 10.0
COMMIT_VARIABLE = "GPU_CHECK_COMMIT"
_PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "flash-attn-3",
    "fa3-fwd",
    "flash-attn3-jax",
    "flash-attn-4",
    "nvidia-cudnn-frontend",
    "nvidia-cutlass-dsl",
    "jax",
)
_DESCRIPTION = (
    "name",
    "driver_version",
    "memory.total",
    "power.limit",
    "clocks.max.sm",
    "clocks.sm",
    "temperature.gpu",
    "power.draw",
)


def commit() -> str:
    """Commit from GPU_CHECK_COMMIT, for a tree copied without its history, or else from git."""
    given = os.environ.get(COMMIT_VARIABLE)
    if given:
        return given
    described = _output("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12")
    return described or "unknown"


def describe() -> dict[str, Any]:
    values = _query(_DESCRIPTION)
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            packages[package] = None
    return {
        "gpu": dict(zip(_DESCRIPTION, values, strict=True)) if values else None,
        "nvcc": _last_line(_output("nvcc", "--version")),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": packages,
    }


def _query(names: tuple[str, ...]) -> list[str] | None:
    text = _output("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits")
    values = [word.strip() for word in text.splitlines()[0].split(",")] if text else []
    return values if len(values) == len(names) else None


def _cpu_name() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else ""


def _output(*command: str) -> str:
    """Output, or "" if the command is missing, fails or hangs."""
    program = find_program(command[0])
    if not program:
        return ""
    try:
        done = run_program([program, *command[1:]], _SECONDS)
    except subprocess.TimeoutExpired:  # as of a driver that hangs
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
