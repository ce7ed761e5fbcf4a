"""Time and memory of packing sequences into prefix trees, by number of tokens.

    python -m benchmarks.prefix_tree                # writes benchmarks/results/prefix_tree.csv and prefix_tree.md

Eight sequences of a prompt share half of their tokens. Each size is packed with pack_tree in a process of its own;
times are the best of --repeats, memory is the growth of the resident set over that of the rows.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np

from benchmarks.collator import cpu_name
from paddle_flashmask.packing import pack_tree

RESULTS = Path(__file__).resolve().parent / "results" / "prefix_tree.csv"
FIELDS = ["length", "tokens", "seconds", "bytes", "sharing", "cpu"]
SEQUENCES = 8  # of each prompt
VOCABULARY = 32_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 2048], help="tokens of each sequence")
    parser.add_argument("--tokens", type=int, nargs="+", default=[10**5, 10**6, 10**7], help="of all sequences")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.output, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for length, tokens in itertools.product(arguments.lengths, arguments.tokens):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, memory, sharing = pool.apply(measure, (length, tokens, arguments.repeats))
            row = [length, tokens, f"{seconds:.6f}", memory, f"{sharing:.3f}", cpu_name()]
            writer.writerow(dict(zip(FIELDS, row, strict=True)))
            print(f"{length:>6} {tokens:>9} tokens {1e3 * seconds:10.1f} ms {memory / 2**20:8.1f} MiB", flush=True)
    arguments.output.with_suffix(".md").write_text(markdown(arguments.output) + "\n")


def measure(length: int, tokens: int, repeats: int) -> tuple[float, int, float]:
    """Return seconds and bytes of packing about `tokens` tokens, and how many of them are shared."""
    rows = list(sequences(length, tokens))
    before = resident_bytes()
    packed, seconds = pack(rows)
    memory = resident_bytes() - before
    best = min([seconds, *(pack(rows)[1] for _ in range(repeats - 1))])
    return best, memory, packed.report.sharing


def pack(rows: list[dict]):
    start = time.perf_counter()
    packed = pack_tree(rows, 8192)
    return packed, time.perf_counter() - start


def sequences(length: int, tokens: int):
    rng = np.random.default_rng(0)
    for _ in range(max(1, tokens // (length * SEQUENCES))):
        prompt = rng.integers(0, VOCABULARY, length // 2)
        for _ in range(SEQUENCES):
            text = np.concatenate([prompt, rng.integers(0, VOCABULARY, length - len(prompt) + 1)])
            yield {"input_ids": text[:-1], "labels": text[1:]}


def resident_bytes() -> int:
    """The largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def markdown(results: Path) -> str:
    """The CSV as a table: one row per length and size."""
    with results.open() as file:
        rows = list(csv.DictReader(file))
    lines = ["| sequence | tokens | time | tokens per second | memory | shared |", "|---|---|---|---|---|---|"]
    for row in rows:
        tokens, seconds = int(row["tokens"]), float(row["seconds"])
        lines.append(
            f"| {row['length']} | {tokens:,} | {1e3 * seconds:.0f} ms | {tokens / seconds / 1e6:.1f} million | "
            f"{int(row['bytes']) / 2**20:.0f} MiB | {float(row['sharing']):.2f} to 1 |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
