"""Run the full product of mask kind, feature, size, instantiation and dtype behind the pairwise cover.

    make emulate-all

The device (compute capability, shared memory, multiprocessors), determinism and the order of execution change from
case to case. Prints failures as they come and writes one CSV row per mask kind and head dims.
"""

from __future__ import annotations

import concurrent.futures
import csv
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import click
from support.cases import problem_of
from support.emulated import SHARED_LARGE, SHARED_MEDIUM, SHARED_SMALL, EmulatedCall, EmulatedKernels, emulated_library
from test_cuda_attention import CHOICES, DTYPES, expectation_of

from tools import kernel_tables

PLAIN = {
    "heads": (1, 1, 1),
    "window": (-1, -1),
    "causal_offset": None,
    "blocks": False,
    "sink": False,
    "dropout": 0.0,
    "dlse": False,
    "layout": "packed",
    "batch": 1,
    "softmax_scale": None,
}
# Head dims of every instantiation, and a pair that is padded on both sides.
HEAD_DIMS = [*sorted({(tile.head_dim, tile.head_dim_v) for tile in kernel_tables.tiles()}), (40, 72)]
SIZES = [(1, 1), (63, 64), (65, 127), (129, 65), (130, 193), (257, 300), (0, 5)]
FEATURES = {
    "plain": {},
    "grouped heads": {"heads": (4, 2, 2)},
    "one key head": {"heads": (6, 1, 3), "batch": 2},
    "window": {"window": (30, 20)},
    "offset": {"causal_offset": 40},
    "block_mask": {"blocks": True},
    "sink": {"sink": True},
    "dropout": {"dropout": 0.2},
    "lse gradient": {"dlse": True},
    "negative scale": {"softmax_scale": -0.3},
    "all": {"heads": (4, 2, 2), "blocks": True, "sink": True, "dropout": 0.2, "dlse": True, "layout": "heads_first"},
}
DEVICES = [
    {"compute_capability": card, "shared_limit": shared, "multiprocessors": count, "deterministic": deterministic}
    for card, shared in (
        (90, SHARED_LARGE),
        (80, SHARED_SMALL),
        (80, SHARED_MEDIUM),
        (80, SHARED_LARGE),
    )
    for deterministic in (False, True)
    for count in (1, 100)
]
kernels: EmulatedKernels | None = None


def all_cases() -> list[dict]:
    axes = itertools.product(CHOICES["kind"], HEAD_DIMS, SIZES, DTYPES, FEATURES)
    return [
        {**PLAIN, "kind": kind, "dims": dims, "size": size, "dtype": dtype, **FEATURES[feature], "feature": feature}
        for kind, dims, size, dtype, feature in axes
    ]


def run(numbered: tuple[int, dict]) -> tuple[dict, str]:
    """Run one case. Returns it with the message of its failure, or ""."""
    global kernels
    if kernels is None:
        kernels = EmulatedKernels(emulated_library())
    number, case = numbered
    device = DEVICES[number % len(DEVICES)]
    problem = problem_of(case)
    kernels.configure(number + 1, device["compute_capability"], device["shared_limit"])
    call = EmulatedCall(kernels, problem, device["deterministic"], device["multiprocessors"])
    try:
        expectation_of(problem).check({**call.forward(), **call.backward()})
    except Exception as error:
        return case, f"{case['feature']}, {device}: {error}"
    return case, ""


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--jobs", default=os.cpu_count())
@click.option("--stride", default=1, help="Only every so many cases.")
def main(output: Path, jobs: int, stride: int) -> None:
    emulated_library()
    cases = all_cases()[::stride]
    started = time.monotonic()
    ran, failed = Counter(), Counter()
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        for done, (case, problem) in enumerate(pool.map(run, enumerate(cases), chunksize=16), 1):
            key = case["kind"], f"{case['dims'][0]}x{case['dims'][1]}"
            ran[key] += 1
            if problem:
                failed[key] += 1
                click.echo(f"FAILED {problem}", err=True)
            if done % 500 == 0 or done == len(cases):
                minutes = (time.monotonic() - started) / 60
                click.echo(f"{done} of {len(cases)} cases, {failed.total()} failed, {minutes:.1f} minutes")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mask", "head_dims", "cases", "failed", "commit"])
        writer.writerows([*key, count, failed[key], commit] for key, count in ran.items())
    sys.exit(failed.total() != 0)


if __name__ == "__main__":
    main()
