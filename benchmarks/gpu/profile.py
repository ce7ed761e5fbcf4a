"""Profile of one forward and one backward with Nsight Compute."""

from __future__ import annotations

import re
import shutil
import sys
from typing import Any

from tools.gpu_check.outcome import Case, NotRun
from tools.gpu_check.plan import Settings
from tools.gpu_check.processes import run_program

SECTIONS = (
    "SpeedOfLight",
    "LaunchStats",
    "Occupancy",
    "SchedulerStats",
    "WarpStateStats",
    "MemoryWorkloadAnalysis",
    "ComputeWorkloadAnalysis",
)
# Metrics for the JSON; TEXT holds the full output.
KEPT = (
    "Duration",
    "SM Frequency",
    "Compute (SM) Throughput",
    "Memory Throughput",
    "L1/TEX Cache Throughput",
    "Registers Per Thread",
    "Achieved Occupancy",
    "No Eligible",
)
SHAPES = {"head_dim 128": ("causal", "128"), "head_dim 64": ("causal", "64")}
TEXT = "ncu.txt"
_SECONDS = 90.0


def cases(settings: Settings) -> list[Case]:
    return [Case(name, lambda name=name: profile(name, settings), _SECONDS) for name in SHAPES]


def profile(name: str, settings: Settings) -> dict[str, Any]:
    program = shutil.which("ncu")
    if not program:
        raise NotRun("ncu was not found")
    # Leave the clocks alone: the machine may be shared.
    command = [program, "--clock-control", "none", "--target-processes", "all"]
    for section in SECTIONS:
        command += ["--section", section]
    command += [sys.executable, "-m", f"{__package__}.profile_driver", str(settings.library), *SHAPES[name]]
    done = run_program(command, _SECONDS)
    output = done.stdout
    with (settings.out / TEXT).open("a") as file:
        file.write(output)
    if "Failed to initialize the profiler" in output or "ERR_NVGPUCTRPERM" in output:
        raise NotRun(f"the hardware counters cannot be read: {output[-300:]}")
    assert done.returncode == 0, f"status {done.returncode}: {output[-1500:]}"
    kernels = read_metrics(output)
    assert kernels, f"no kernel was profiled: {output[-1500:]}"
    return {"profiled": kernels}


def read_metrics(text: str) -> list[dict[str, str]]:
    """One dict per launch, with `kernel` and the metrics of KEPT with their units."""
    kernels: list[dict[str, str]] = []
    for line in text.splitlines():
        launch = re.match(r"^\s{2}(\S.*?) \(\d+, \d+, \d+\)x\(\d+, \d+, \d+\), Context", line)
        if launch:
            kernels.append({"kernel": launch[1]})
            continue
        words = re.split(r"\s{2,}", line.strip())
        if kernels and len(words) in (2, 3) and words[0] in KEPT:
            kernels[-1].setdefault(words[0], " ".join(reversed(words[1:])))
    return kernels
