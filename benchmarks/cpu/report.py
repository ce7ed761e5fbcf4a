"""Markdown table and bar plot of the CSV file that benchmarks.cpu.run writes.

python -m benchmarks.cpu.report benchmarks/results/cpu.csv --plot docs/images/cpu.png
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import click

Key = tuple[str, str, str, str]
"""(seqlen, head_dim, dtype, mask)"""

Rounds = dict[tuple[str, str], list[dict[str, str]]]
"""Rows of each (direction, contestant), in the order of the rounds."""


def load(path: Path) -> dict[Key, Rounds]:
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


def markdown(table: dict[Key, Rounds]) -> str:
    lines = [
        "| S | D | dtype | mask | density | fwd ms | fwd GFLOP/s | % of FMA peak | x SDPA | x Flex | bwd ms "
        "| bwd GFLOP/s | x SDPA |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]

    def times(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    for (seqlen, head_dim, dtype, mask), rows in table.items():
        forward, backward = rows["forward", "ours"], rows["backward", "ours"]
        share = 100 * median(forward, "gflops") / float(forward[0]["fma_peak_gflops"])
        cells = [
            seqlen,
            head_dim,
            dtype,
            mask,
            f"{float(forward[0]['density']):.3f}",
            f"{median(forward, 'ms'):.1f}",
            f"{median(forward, 'gflops'):.0f}",
            f"{share:.0f}",
            times(ratio(rows, "forward", "torch_sdpa")),
            times(ratio(rows, "forward", "torch_flex")),
            f"{median(backward, 'ms'):.1f}",
            f"{median(backward, 'gflops'):.0f}",
            times(ratio(rows, "backward", "torch_sdpa")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


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
@click.option("--plot", "plot_path", type=click.Path(path_type=Path))
@click.option("--seqlen", default="8192", help="Sequence length of the plot.")
@click.option("--head-dim", default="128", help="Head dim of the plot.")
def main(results: Path, plot_path: Path | None, seqlen: str, head_dim: str) -> None:
    table = load(results)
    click.echo(markdown(table))
    if plot_path:
        plot(table, plot_path, seqlen, head_dim)


if __name__ == "__main__":
    main()
