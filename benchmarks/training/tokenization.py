"""Rows per second from a data file to tokens: in one process, in several, and from the cache.

    PYTHONPATH=examples python -m benchmarks.training.tokenization   # writes tokenization.csv and .md of the results

The rows are the real instructions of examples/sft, repeated --copies times, for the tokenizer that the example trains
on them: SentencePiece, as in Llama 2. "whole" is the rate from the first line to the last, and the first five seconds
are always spent in one process; "running" is the rate of the second half of the rows.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft.prepare import download_instructions, make_model, write_rows

from benchmarks.collator import cpu_name
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.token_cache import TokenCache
from paddle_flashmask.integrations.paddlenlp.data.tokenization import Tokenization
from paddle_flashmask.integrations.paddlenlp.loading import TokenizerSource

RESULTS = Path(__file__).resolve().parents[1] / "results" / "tokenization.csv"
FIELDS = ["way", "rows", "tokens", "seconds", "rows_per_second", "running_rows_per_second", "cpu"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=60)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = download_instructions(folder)
        write_rows(folder / "train.json", rows)
        make_model(folder / "model", folder / "train.json")
        write_rows(folder / "train.json", rows * arguments.copies)
        measured = list(measure(folder, arguments.processes))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.output, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows({**row, "cpu": cpu_name()} for row in measured)
    arguments.output.with_suffix(".md").write_text(markdown(arguments.output) + "\n")


def measure(folder: Path, processes: list[int]) -> Iterator[dict[str, Any]]:
    """A row of the CSV for every number of processes, for the writing of the cache, and for reading it."""
    source = TokenizerSource(str(folder / "model"), None)
    cache = TokenCache(folder / "cache", "sft-train", source, print)
    ways = [(f"{count} process{'es' * (count > 1)}", Tokenization(source, count)) for count in processes]
    ways += [(way, Tokenization(source, processes[-1], cache)) for way in ("cache, written", "cache, read")]
    expected = None
    for way, reader in ways:
        rows = SFTTokens(SFTLines(str(folder), "train"), source.load(), 1024, 2048)
        rows.reader = reader
        started = time.perf_counter()
        times, tokens = [], 0
        for row in rows:
            times.append(time.perf_counter() - started)
            tokens += len(row["input_ids"])
        seconds = time.perf_counter() - started
        assert expected in (None, (len(times), tokens))
        expected = (len(times), tokens)
        second_half = times[len(times) // 2 :]
        running = (len(second_half) - 1) / (second_half[-1] - second_half[0])
        print(f"{way:16} {len(times):,} rows in {seconds:6.2f} s, {running:,.0f} rows/s in the second half")
        yield {
            "way": way,
            "rows": len(times),
            "tokens": tokens,
            "seconds": f"{seconds:.2f}",
            "rows_per_second": f"{len(times) / seconds:.0f}",
            "running_rows_per_second": f"{running:.0f}",
        }


def markdown(results: Path) -> str:
    with results.open() as file:
        rows = list(csv.DictReader(file))
    count, tokens = int(rows[0]["rows"]), int(rows[0]["tokens"])
    lines = [
        f"{count:,} rows of {tokens / count:.0f} tokens on average, {rows[0]['cpu']}. Rows per second:",
        "",
        "| | seconds | whole | running |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        whole, running = (f"{int(row[key]):,}" for key in ("rows_per_second", "running_rows_per_second"))
        lines.append(f"| {row['way']} | {row['seconds']} | {whole} | {running} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
