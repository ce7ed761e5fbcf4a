"""Profiles of the main kernels with Nsight Compute: metrics, stalls of every instruction, and the report itself."""

from __future__ import annotations

import csv
import functools
import re
import sys
from pathlib import Path
from typing import Any

from support.repository import REPOSITORY

from tools.gpu_check import caches
from tools.gpu_check.outcome import Case, NotRun
from tools.gpu_check.plan import Settings
from tools.gpu_check.processes import find_program, run_program

from .profile_driver import KERNELS

SECTIONS = (
    "SpeedOfLight",
    "LaunchStats",
    "Occupancy",
    "SchedulerStats",
    "WarpStateStats",
    "InstructionStats",
    "MemoryWorkloadAnalysis",
    "MemoryWorkloadAnalysis_Tables",
    "ComputeWorkloadAnalysis",
    "SourceCounters",
)
# Beyond the sections. Those that the installed version does not know are left out.
METRICS = (
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_op_gmma_cycles_active.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum",
    "lts__t_sectors_op_red.sum",
    "dram__bytes_read.sum",
)
# Metrics of the sections for the JSON; TEXT holds all.
KEPT = (
    "Duration",
    "SM Frequency",
    "Compute (SM) Throughput",
    "Memory Throughput",
    "L1/TEX Cache Throughput",
    "L2 Hit Rate",
    "Registers Per Thread",
    "Achieved Occupancy",
    "No Eligible",
    *METRICS,
)
MASKS = ("full", "causal_document")
HEAD_DIMS = (128, 64)
TEXT, ARCHIVE = "ncu.txt", "profiles.tar.gz"
REPORTS = REPOSITORY / "build" / "gpu_check_profiles"
_SAMPLES = "Warp Stall Sampling (All Samples)"
_TOP = 12  # instructions with the most samples, for the JSON
_SECONDS, _IMPORT_SECONDS = 75.0, 30.0


def cases(settings: Settings) -> list[Case]:
    shapes = [(kernel, head_dim, mask) for head_dim in HEAD_DIMS for mask in MASKS for kernel in KERNELS]
    return [
        Case(f"{kernel} D{head_dim} {mask}", functools.partial(profile, kernel, head_dim, mask, settings), _SECONDS)
        for kernel, head_dim, mask in shapes
    ]


def profile(kernel: str, head_dim: int, mask: str, settings: Settings) -> dict[str, Any]:
    """Profile one launch of the newest kernels. TEXT gets the details, ARCHIVE the report and the source page."""
    ncu = find_program("ncu")
    if not ncu:
        raise NotRun("ncu was not found")
    metrics, unknown = _known_metrics(ncu)
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{kernel}-{head_dim}-{mask}.ncu-rep"
    # Leave the clocks alone: the machine may be shared.
    command = [ncu, "--clock-control", "none", "--target-processes", "all", "--force-overwrite", "--export", report]
    command += ["--kernel-name-base", "demangled", "--kernel-name", f"regex:{KERNELS[kernel]}", "--launch-count", "1"]
    for section in SECTIONS:
        command += ["--section", section]
    command += ["--metrics", ",".join(metrics)] if metrics else []
    command += [sys.executable, "-m", f"{__package__}.profile_driver", settings.library, mask, head_dim, kernel]
    done = run_program(command, _SECONDS)
    output = done.stdout
    if "Failed to initialize the profiler" in output or "ERR_NVGPUCTRPERM" in output:
        raise NotRun(f"the hardware counters cannot be read: {output[-300:]}")
    assert done.returncode == 0, f"status {done.returncode}: {output[-1500:]}"
    details = _page(ncu, report, "details", "--print-details", "all")
    source = _page(ncu, report, "source", "--csv")
    with (settings.out / TEXT).open("a") as file:
        file.write(f"== {report.stem}\n{output}{details}")
    report.with_suffix(".csv").write_text(source)
    caches.pack(REPORTS, settings.out / ARCHIVE)
    kernels = read_metrics(details)
    assert kernels, f"no kernel was profiled: {output[-1500:]}"
    return {"profiled": kernels, "unknown_metrics": unknown, **read_stalls(source)}


def _known_metrics(ncu: str) -> tuple[list[str], list[str]]:
    """METRICS that this version knows, and the others."""
    listed = set(run_program([ncu, "--query-metrics"], _IMPORT_SECONDS).stdout.split())
    known = [metric for metric in METRICS if metric.split(".")[0] in listed]
    return known, [metric for metric in METRICS if metric not in known]


def _page(ncu: str, report: Path, page: str, *options: str) -> str:
    done = run_program([ncu, "--import", report, "--page", page, *options], _IMPORT_SECONDS)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout[-1500:]}"
    return done.stdout


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


def read_stalls(source: str) -> dict[str, Any]:
    """Samples by stall reason, and the instructions with the most samples, from the CSV of the source page."""
    lines = source.splitlines()
    head = next((index for index, line in enumerate(lines) if _SAMPLES in line), None)
    if head is None:
        return {}
    rows = list(csv.DictReader(lines[head:]))
    reasons = [name for name in rows[0] if name and name.startswith("stall_") and "not_issued" not in name]
    stalls = {reason: sum(_number(row[reason]) for row in rows) for reason in reasons} if rows else {}
    busiest = sorted(rows, key=lambda row: -_number(row[_SAMPLES]))[:_TOP]
    top = [{"instruction": row.get("Source", "").strip(), "samples": _number(row[_SAMPLES])} for row in busiest]
    return {"stalls": {reason: count for reason, count in stalls.items() if count}, "instructions": top}


def _number(text: str | None) -> int:
    return int(text.replace(",", "")) if text and text.replace(",", "").isdigit() else 0
