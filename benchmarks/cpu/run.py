"""Timing of the operator and its peers, with one CSV row per problem, direction, contestant and round.

    OMP_NUM_THREADS=2 python -m benchmarks.cpu.run --output benchmarks/results/cpu.csv

Contestants take turns within a round, so that other load affects all of them alike. report.py takes ratios within a
round and the median over rounds.
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from .cases import paper_masks
from .contestant import CONTESTANTS, Contestant
from .problem import Problem

COLUMNS = (
    "mask",
    "seqlen",
    "heads",
    "head_dim",
    "dtype",
    "density",
    "direction",
    "contestant",
    "threads",
    "round",
    "ms",
    "gflops",
    "fma_peak_gflops",
    "cpu",
    "commit",
)
# FLOPs per visible pair and head_dim element: two products forward, five backward.
FLOPS = {"forward": 4, "backward": 10}


def fma_peak(threads: int) -> float:
    """GFLOP/s of `threads` concurrent copies of peak.cc."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        source = Path(__file__).with_name("peak.cc")
        subprocess.run(["g++", "-O2", "-march=native", source, "-o", program], check=True)
        running = [subprocess.Popen([program], stdout=subprocess.PIPE, text=True) for _ in range(threads)]
        return sum(float(process.communicate()[0].split()[0]) for process in running)


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def measure(contestants: list[Contestant], rounds: int) -> Iterator[tuple[str, str, list[float]]]:
    """Yield direction, contestant, and the seconds of each round."""
    for direction in FLOPS:
        running = [c for c in contestants if direction in c.directions]
        times: dict[str, list[float]] = {contestant.name: [] for contestant in running}
        for _ in range(rounds):
            for contestant in running:
                times[contestant.name].append(contestant.seconds(direction))
        for name, taken in times.items():
            yield direction, name, taken


def flex_enters(problem: Problem) -> bool:
    return problem.dtype == "float32" and problem.head_dim == 128


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--seqlens", default="2048,4096,8192,16384")
@click.option("--head-dims", default="128")
@click.option("--dtypes", default="float32")
@click.option("--masks", default="", help="Comma-separated names (default: all masks of the paper).")
@click.option("--heads", default=4)
@click.option("--rounds", default=3)
@click.option("--threads", default=2)
@click.option("--flex/--no-flex", default=True, help="Include FlexAttention, in float32 at head_dim 128.")
def main(
    output: Path,
    seqlens: str,
    head_dims: str,
    dtypes: str,
    masks: str,
    heads: int,
    rounds: int,
    threads: int,
    flex: bool,
) -> None:
    if os.environ.get("OMP_NUM_THREADS") != str(threads):
        raise click.UsageError(f"set OMP_NUM_THREADS={threads}, which Paddle and PyTorch read at startup")
    peak = fma_peak(threads)
    machine = {"threads": threads, "fma_peak_gflops": f"{peak:.1f}", "cpu": cpu_name(), "commit": commit()}
    click.echo(f"{cpu_name()}, {threads} threads, FMA peak {peak:.0f} GFLOP/s, commit {commit()}")
    problems = [
        Problem(mask, name, heads, int(head_dim), dtype)
        for seqlen in seqlens.split(",")
        for head_dim in head_dims.split(",")
        for dtype in dtypes.split(",")
        for name, mask in paper_masks(int(seqlen)).items()
        if not masks or name in masks.split(",")
    ]
    contestants = {name: Contestant(name) for name in CONTESTANTS if flex or name != "torch_flex"}
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for problem in problems:
            entered = [c for c in contestants.values() if c.name != "torch_flex" or flex_enters(problem)]
            for contestant in entered:
                contestant.prepare(problem)
            line = f"{problem.name:22} S {problem.seqlen:6} D {problem.head_dim:3} {problem.dtype:8}"
            for direction, name, taken in measure(entered, rounds):
                flops = FLOPS[direction] * problem.head_dim * problem.pairs
                for number, time_taken in enumerate(taken):
                    writer.writerow(
                        {
                            "mask": problem.name,
                            "seqlen": problem.seqlen,
                            "heads": problem.heads,
                            "head_dim": problem.head_dim,
                            "dtype": problem.dtype,
                            "density": f"{problem.mask.statistics().density:.4f}",
                            "direction": direction,
                            "contestant": name,
                            "round": number,
                            "ms": f"{time_taken * 1e3:.2f}",
                            "gflops": f"{flops / time_taken / 1e9:.1f}",
                            **machine,
                        }
                    )
                line += f" | {direction[:3]} {name} {statistics.median(taken) * 1e3:.0f} ms"
            file.flush()
            click.echo(line)
    for contestant in contestants.values():
        contestant.close()


if __name__ == "__main__":
    main()
