"""The commit, the GPU and its driver, and how fast the GPU was clocked while something ran."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import threading
import time
from importlib import metadata
from typing import Any

from .plan import REPOSITORY

COMMIT_VARIABLE = "GPU_CHECK_COMMIT"
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
_LOAD = ("clocks.sm", "power.draw", "temperature.gpu")
_SAMPLE_MILLISECONDS = 200


def commit() -> str:
    """From the environment where the tree travels without its history, else from git."""
    given = os.environ.get(COMMIT_VARIABLE)
    if given:
        return given
    described = _output("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12")
    return described or "unknown"


def describe() -> dict[str, Any]:
    values = _query(_DESCRIPTION)
    packages = {}
    for package in ("torch", "triton", "numpy", "flash-attn-3", "fa3-fwd"):
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


class LoadSampler:
    """Reads clock, power and temperature in the background while it is open."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, list[float]]] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> LoadSampler:
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", f"--query-gpu={','.join(_LOAD)}", "--format=csv,noheader,nounits"]
            command.append(f"--loop-ms={_SAMPLE_MILLISECONDS}")
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def _read(self) -> None:
        assert self._process and self._process.stdout
        for line in self._process.stdout:
            try:
                self._samples.append((time.monotonic(), [float(word) for word in line.split(",")]))
            except ValueError:  # "[N/A]"
                continue

    def median_since(self, begin: float) -> dict[str, float]:
        taken = [values for moment, values in list(self._samples) if moment >= begin]
        if not taken:
            return {}
        return {name: statistics.median(column) for name, column in zip(_LOAD, zip(*taken, strict=True), strict=True)}


def _query(names: tuple[str, ...]) -> list[str] | None:
    text = _output("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits")
    return [word.strip() for word in text.splitlines()[0].split(",")] if text else None


def _cpu_name() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _last_line(text: str) -> str:
    return text.splitlines()[-1] if text else ""


def _output(*command: str) -> str:
    """Empty where the command is missing or fails."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
