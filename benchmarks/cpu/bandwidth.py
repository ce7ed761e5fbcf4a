"""Few queries or few keys: the operator beside a copy that moves as many bytes as the call has to.

    OMP_NUM_THREADS=1 python -m benchmarks.cpu.bandwidth --output benchmarks/results/cpu_bandwidth.csv

With few queries a call reads keys and values, and a copy of the key to another tensor reads and writes as many bytes.
With few keys a call reads queries and writes outputs, as a copy of the query does. Copy and call take turns, and times
are processor times of the one thread, which other load on the machine disturbs least. The share of the copy's bandwidth
is the median over rounds of copy time over call time.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from .run import commit, cpu_name

COLUMNS = (
    "seqlen_q",
    "seqlen_k",
    "heads_q",
    "heads_kv",
    "head_dim",
    "dtype",
    "round",
    "ms",
    "copy_ms",
    "cpu",
    "commit",
)
SHOWN = ("Sq", "Sk", "Hq", "Hkv", "D", "dtype", "ms", "GB/s", "copy GB/s", "% of the copy")
HEAD_DIM = 128
# Sq, Sk, Hq, Hkv
PROBLEMS = (
    *((rows, 16384, 8, 8) for rows in (1, 2, 4, 8)),
    (1, 16384, 32, 8),
    (4, 16384, 32, 8),
    (1, 131072, 1, 1),
    (16384, 1, 8, 8),
    (16384, 8, 8, 8),
)
DTYPES = ("float32", "bfloat16", "float16")
ELEMENT_SIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
# The fastest counts, because on a shared machine any call may be disturbed.
CALLS_PER_TURN = 3

Key = tuple[str, ...]


def moved_bytes(seqlen_q: int, seqlen_k: int, heads_q: int, heads_kv: int, dtype: str) -> int:
    """Bytes of the longer side: keys and values, or queries and outputs."""
    rows = seqlen_k * heads_kv if seqlen_k > seqlen_q else seqlen_q * heads_q
    return 2 * rows * HEAD_DIM * ELEMENT_SIZE[dtype]


def processor_seconds(call: Callable[[], object]) -> float:
    def once() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return min(once() for _ in range(CALLS_PER_TURN))


def measure(problem: tuple[int, int, int, int], dtype: str, rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of the call and of the copy, by round."""
    import paddle

    import paddle_flashmask

    seqlen_q, seqlen_k, heads_q, heads_kv = problem
    query = paddle.randn([1, seqlen_q, heads_q, HEAD_DIM]).astype(dtype)
    key, value = (paddle.randn([1, seqlen_k, heads_kv, HEAD_DIM]).astype(dtype) for _ in range(2))
    source = np.ones(moved_bytes(*problem, dtype) // 2, np.uint8)
    target = np.zeros_like(source)

    def attend() -> paddle.Tensor:
        return paddle_flashmask.flashmask_attention(query, key, value)

    attend()
    return [(processor_seconds(attend), processor_seconds(lambda: np.copyto(target, source))) for _ in range(rounds)]


def load(path: Path) -> dict[Key, list[dict[str, str]]]:
    """Read the rows of a CSV, grouped by problem."""
    table: dict[Key, list[dict[str, str]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            table.setdefault(tuple(row[column] for column in COLUMNS[:6]), []).append(row)
    return table


def share(rows: list[dict[str, str]]) -> float:
    """Share of the copy's bandwidth that the call reaches."""
    return statistics.median(float(row["copy_ms"]) / float(row["ms"]) for row in rows)


def markdown(table: dict[Key, list[dict[str, str]]]) -> str:
    lines = ["| " + " | ".join(SHOWN) + " |", "|" + "---|" * len(SHOWN)]
    for key, rows in table.items():
        moved = moved_bytes(*(int(size) for size in key[:4]), key[5])
        ms, copy_ms = (statistics.median(float(row[column]) for row in rows) for column in ("ms", "copy_ms"))
        figures = f"{ms:.1f}", f"{moved / ms / 1e6:.1f}", f"{moved / copy_ms / 1e6:.1f}", f"{100 * share(rows):.0f}"
        lines.append("| " + " | ".join((*key, *figures)) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--rounds", default=7)
def main(output: Path, rounds: int) -> None:
    """Write the CSV, and the table beside it."""
    with output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for problem in PROBLEMS:
            for dtype in DTYPES:
                for number, (taken, copy) in enumerate(measure(problem, dtype, rounds)):
                    figures = (number, f"{taken * 1e3:.3f}", f"{copy * 1e3:.3f}", cpu_name(), commit())
                    writer.writerow((*problem, HEAD_DIM, dtype, *figures))
    output.with_suffix(".md").write_text(markdown(load(output)) + "\n")


if __name__ == "__main__":
    main()
