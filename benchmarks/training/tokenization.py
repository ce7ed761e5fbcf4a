"""Rows per second from a data file to tokens: in one process, in several, and from the cache.

    PYTHONPATH=examples python -m benchmarks.training.tokenization   # writes tokenization.csv and .md of the results

The rows are the real instructions of examples/sft, repeated --copies times, for the tokenizer that the example trains
on them: SentencePiece, as in Llama 2. The first five seconds are always spent in one process. CPU seconds are those of
the process that reads, and of the others with their start; unlike the time they hardly depend on other programs.
"""

from __future__ import annotations

import argparse
import csv
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.collator import cpu_name
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.token_cache import TokenCache
from paddle_flashmask.integrations.paddlenlp.data.tokenization import Tokenization
from paddle_flashmask.integrations.paddlenlp.loading import TokenizerSource

RESULTS = Path(__file__).resolve().parents[1] / "results" / "tokenization.csv"
FIELDS = ["way", "rows", "tokens", "seconds", "cpu_seconds_here", "cpu_seconds_in_others", "cpu"]


def main() -> None:
    from sft.prepare import download_instructions, make_model, write_rows  # of the folder examples

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=30)
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
        before, started = [_cpu_seconds(who) for who in _WHO], time.perf_counter()
        count = tokens = 0
        for row in rows:
            count += 1
            tokens += len(row["input_ids"])
        seconds = time.perf_counter() - started
        here, others = (_cpu_seconds(who) - earlier for who, earlier in zip(_WHO, before, strict=True))
        assert expected in (None, (count, tokens))
        expected = (count, tokens)
        print(f"{way:16} {count:,} rows in {seconds:6.2f} s; CPU {here:.2f} s here, {others:.2f} s in others")
        figures = [way, count, tokens, *(f"{number:.2f}" for number in (seconds, here, others))]
        yield dict(zip(FIELDS, figures, strict=False))


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _cpu_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def markdown(results: Path) -> str:
    with results.open() as file:
        rows = list(csv.DictReader(file))
    count, tokens = int(rows[0]["rows"]), int(rows[0]["tokens"])
    lines = [
        f"{count:,} rows of {tokens / count:.0f} tokens on average, {rows[0]['cpu']}:",
        "",
        "| | seconds | rows per second | CPU seconds here | CPU seconds in others |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        rate = int(row["rows"]) / float(row["seconds"])
        cells = [row["way"], row["seconds"], f"{rate:,.0f}", row["cpu_seconds_here"], row["cpu_seconds_in_others"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
