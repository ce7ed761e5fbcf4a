"""Markdown tables and a bar plot from the CSV file that benchmarks.cpu.run writes.

    python -m benchmarks.cpu.report benchmarks/results/cpu.csv --plot docs/images/cpu.png
    python -m benchmarks.cpu.report benchmarks/results/cpu.csv --summary

The first writes every problem to benchmarks/results/cpu.md, beside the CSV; the second prints the short table of
docs/performance/results.md.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import click

Key = tuple[str, str, str, str]
"""(seqlen, head_dim, dtype, mask)"""

Rounds = dict[tuple[str, str], list[dict[str, str]]]
"""Rows of each (direction, contestant), in the order of the rounds."""

HEAD = (
    "S",
    "D",
    "dtype",
    "mask",
    "density",
    "fwd ms",
    "fwd GFLOP/s",
    "% of FMA peak",
    "x SDPA",
    "x Flex",
    "bwd ms",
    "bwd GFLOP/s",
    "x SDPA",
)
SUMMARY_COLUMNS = (3, 4, 5, 7, 8, 9, 10, 12)  # of HEAD
SUMMARY_MASKS = (
    "full",
    "causal",
    "sliding_window",
    "causal_document",
    "document",
    "share_question",
    "global_sliding_window",
    "causal_blockwise",
    "prefix_lm_causal",
    "random_eviction",
)


def load(path: Path) -> dict[Key, Rounds]:
    """Read the rows of a CSV, grouped by problem."""
    table: dict[Key, Rounds] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            key = (row["seqlen"], row["head_dim"], row["dtype"], row["mask"])
            table.setdefault(key, {}).setdefault((row["direction"], row["contestant"]), []).append(row)
    return table


def median(rows: list[dict[str, str]], column: str) -> float:
    return statistics.median(float(row[column]) for row in rows)


def ratio(rounds: Rounds, direction: str, peer: str) -> float | None:
    """Time of the peer over ours, as the median of the ratios within each round; None if it did not run."""
    if (direction, peer) not in rounds:
        return None
    pairs = zip(rounds[direction, peer], rounds[direction, "ours"], strict=True)
    return statistics.median(float(theirs["ms"]) / float(ours["ms"]) for theirs, ours in pairs)


def peak_share(rounds: Rounds, direction: str) -> float:
    """Share of the FMA peak of all threads that the median rate reaches."""
    rows = rounds[direction, "ours"]
    return median(rows, "gflops") / float(rows[0]["fma_peak_gflops"])


def cells(key: Key, rounds: Rounds) -> list[str]:
    """Cells of HEAD for one problem."""
    forward, backward = rounds["forward", "ours"], rounds["backward", "ours"]

    def times(direction: str, peer: str) -> str:
        value = ratio(rounds, direction, peer)
        return "-" if value is None else f"{value:.2f}"

    return [
        *key,
        f"{float(forward[0]['density']):.3f}",
        f"{median(forward, 'ms'):.1f}",
        f"{median(forward, 'gflops'):.0f}",
        f"{100 * peak_share(rounds, 'forward'):.0f}",
        times("forward", "torch_sdpa"),
        times("forward", "torch_flex"),
        f"{median(backward, 'ms'):.1f}",
        f"{median(backward, 'gflops'):.0f}",
        times("backward", "torch_sdpa"),
    ]


def markdown(table: dict[Key, Rounds]) -> str:
    """Every problem of the CSV."""
    return _lines(HEAD, [cells(*item) for item in table.items()])


def summary(table: dict[Key, Rounds], seqlen: str = "8192", head_dim: str = "128", dtype: str = "float32") -> str:
    """At most ten masks at one length, head dim and type."""
    keys = [(seqlen, head_dim, dtype, mask) for mask in SUMMARY_MASKS]
    rows = [[cells(key, table[key])[column] for column in SUMMARY_COLUMNS] for key in keys]
    return _lines([HEAD[column] for column in SUMMARY_COLUMNS], rows)


def _lines(head: Sequence[str], rows: list[list[str]]) -> str:
    body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body])


def plot(table: dict[Key, Rounds], path: Path, seqlen: str, head_dim: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    chosen = {k[3]: v for k, v in table.items() if k[:3] == (seqlen, head_dim, "float32")}
    names = list(chosen)
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for offset, direction, colour in ((-0.2, "forward", "#1b6ca8"), (0.2, "backward", "#e07a1f")):
        heights = [ratio(chosen[name], direction, "torch_sdpa") or 0 for name in names]
        bars = axes.bar([i + offset for i in range(len(names))], heights, 0.38, label=direction, color=colour)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log", base=2)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=7)
    axes.set_ylabel("times faster than torch SDPA")
    row = next(iter(chosen.values()))["forward", "ours"][0]
    axes.set_title(f"S {seqlen}, head_dim {head_dim}, float32, {row['heads']} heads, {row['threads']} threads")
    axes.legend()
    figure.savefig(path, dpi=110)


@click.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True))
@click.option("--summary", "is_summary", is_flag=True, help="Print ten masks, and write nothing.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path))
@click.option("--seqlen", default="8192", help="Length of the plot and of the summary.")
@click.option("--head-dim", default="128", help="Head dim of the plot and of the summary.")
def main(results: Path, is_summary: bool, plot_path: Path | None, seqlen: str, head_dim: str) -> None:
    """Write the table of RESULTS, a CSV of benchmarks.cpu.run, beside it."""
    table = load(results)
    if is_summary:
        click.echo(summary(table, seqlen, head_dim))
        return
    results.with_suffix(".md").write_text(markdown(table) + "\n")
    if plot_path:
        plot(table, plot_path, seqlen, head_dim)


if __name__ == "__main__":
    main()
