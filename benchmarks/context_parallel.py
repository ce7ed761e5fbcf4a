"""Balance and communication of context parallel attention: every mask, length and number of ranks, by exact counts.

    PYTHONPATH=tests python -m benchmarks.context_parallel    # writes benchmarks/results/context_parallel.csv and .md

Nothing is timed: the figures follow from the masks. Bytes are those that the busiest rank sends in both passes of one
layer with 8 key heads of 128 in 16 bits.
"""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import click
from registry_masks import build_mask

from benchmarks.gpu.paper_masks import NAMES, paper_mask
from paddle_flashmask import masks
from paddle_flashmask.distributed import RowShares, contiguous, share_rows, zigzag

RESULTS = Path(__file__).resolve().parent / "results" / "context_parallel.csv"
SEQLENS, RANKS = (8192, 32768, 131072), (2, 4, 8, 16, 32, 64)
HEADS_KV, HEAD_DIM = 8, 128
SHARES = {"share_rows": share_rows, "zigzag": zigzag, "contiguous": contiguous}
FIELDS = ("mask", "seqlen", "ranks", "rows", "balance", "row_balance", "most_ranges", "most_bytes_sent", "keys_sent")


@click.command(help=__doc__)
@click.option("--seqlens", multiple=True, type=int, default=SEQLENS)
@click.option("--ranks", multiple=True, type=int, default=RANKS)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS)
def main(seqlens: tuple[int, ...], ranks: tuple[int, ...], output: Path) -> None:
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for seqlen, name in itertools.product(seqlens, (*NAMES, "prefix_tree")):
            mask = mask_of(name, seqlen)
            for count, (rows, share) in itertools.product(ranks, SHARES.items()):
                cells = (name, seqlen, count, rows, *figures(share(mask, count)))
                writer.writerow(dict(zip(FIELDS, cells, strict=True)))
            print(name, seqlen, flush=True)
    output.with_suffix(".md").write_text(markdown(output) + "\n")


def mask_of(name: str, seqlen: int) -> masks.ColumnMask:
    """The mask with the documents of the paper's kernel tables."""
    if name in ("full", "causal"):
        return getattr(masks, name)(seqlen)
    if name == "prefix_tree":
        return build_mask(name, seqlen, 1, 1)
    mask = paper_mask(name, seqlen)
    return masks.ColumnMask(mask.columns, mask.causal, seqlen)


def figures(shares: RowShares) -> tuple[str, str, int, int, int]:
    """The last fields of a row."""
    return (
        f"{shares.balance:.4f}",
        f"{shares.row_balance:.4f}",
        max(map(len, shares.rows)),
        int(shares.bytes_sent(HEADS_KV, HEAD_DIM).max()),
        int(shares.sent.sum()),
    )


CELLS = {
    "Pairs of the slowest rank over the mean": lambda row: f"{float(row['balance']):.2f}",
    "MiB that the busiest rank sends": lambda row: f"{int(row['most_bytes_sent']) / 2**20:.0f}",
}


def load(results: Path) -> dict[tuple[str, str, str, str], dict[str, str]]:
    """Rows by mask, length, number of ranks and way of sharing."""
    with results.open(encoding="utf-8") as file:
        return {tuple(row[name] for name in FIELDS[:4]): row for row in csv.DictReader(file)}


def markdown(results: Path) -> str:
    """A table for each of CELLS and every length: share_rows, zigzag and contiguous in each cell."""
    rows = load(results)
    names, seqlens, ranks = (list(dict.fromkeys(key[place] for key in rows)) for place in range(3))
    parts = []
    for (title, cell), seqlen in itertools.product(CELLS.items(), seqlens):
        lines = [f"{title}, {int(seqlen):,} rows: share_rows / zigzag / contiguous", ""]
        lines.append(f"| mask | {' | '.join(f'{count} ranks' for count in ranks)} |")
        lines.append(f"|---|{'---|' * len(ranks)}")
        for name in names:
            cells = [" / ".join(cell(rows[name, seqlen, count, way]) for way in SHARES) for count in ranks]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def summary(results: Path, seqlen: str = "131072", ranks: str = "8") -> str:
    """Balance, and MiB in brackets, of one length and number of ranks."""
    rows = load(results)
    lines = [f"| mask | {' | '.join(f'`{way}`' for way in SHARES)} |", f"|---|{'---|' * len(SHARES)}"]
    for name in dict.fromkeys(key[0] for key in rows):
        found = [rows[name, seqlen, ranks, way] for way in SHARES]
        cells = ["{} ({})".format(*(cell(row) for cell in CELLS.values())) for row in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
