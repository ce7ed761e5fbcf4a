"""Exact counts that the predictions start from: pairs, keys and messages of every rank of a context parallel group.

    PYTHONPATH=tests python -m benchmarks.scaling.counts    # two minutes; writes benchmarks/results/scaling_counts.csv

One batch row and one mask head. Lists of a row have one number per rank.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from paddle_flashmask.distributed import RowShares, contiguous, share_rows, zigzag

RESULTS = Path(__file__).resolve().parents[1] / "results" / "scaling_counts.csv"
SHARES = {"share_rows": share_rows, "zigzag": zigzag, "contiguous": contiguous}
SEQLENS, RANKS = (32768, 131072), (8, 16, 32, 64)
NODE = 8  # GPUs
FIELDS = ("mask", "seqlen", "ranks", "rows", "pairs", "near", "far", "all", "messages")


@dataclass(frozen=True)
class Counts:
    """Work and traffic of one layer and one mask head, int64 [ranks].

    Attributes:
        pairs: visible pairs of each rank.
        near: keys through the busier direction of each rank's link to ranks of its node, where 8 ranks are a node.
        far: the same for ranks of other nodes.
        all: the same for all other ranks, where every rank is on a node of its own.
        messages: the most other ranks that one rank exchanges keys with.

    Keys and values leave their owner three times, because recompute runs the forward pass twice; their gradients come
    back once.
    """

    pairs: np.ndarray
    near: np.ndarray
    far: np.ndarray
    all: np.ndarray
    messages: int


def count(shares: RowShares) -> Counts:
    """Return the counts of one way to share out the rows."""
    nodes = np.arange(len(shares.rows)) // NODE
    same = nodes[:, None] == nodes
    sent = shares.sent
    near, far, everything = (_busier(np.where(which, sent, 0)) for which in (same, ~same, True))
    return Counts(shares.pairs, near, far, everything, int(((sent > 0) | (sent.T > 0)).sum(axis=1).max()))


def _busier(sent: np.ndarray) -> np.ndarray:
    leaves, arrives = sent.sum(axis=1), sent.sum(axis=0)
    return np.maximum(3 * leaves + arrives, 3 * arrives + leaves)


def load(results: Path = RESULTS) -> dict[tuple[str, int, int, str], Counts]:
    """Return the counts of the CSV file by mask, length, number of ranks and way of sharing."""
    with results.open(encoding="utf-8") as file:
        return {
            (row["mask"], int(row["seqlen"]), int(row["ranks"]), row["rows"]): Counts(
                *(np.array(row[name].split(), dtype=np.int64) for name in ("pairs", "near", "far", "all")),
                int(row["messages"]),
            )
            for row in csv.DictReader(file)
        }


@click.command(help=__doc__)
@click.option("--seqlens", multiple=True, type=int, default=SEQLENS)
@click.option("--ranks", multiple=True, type=int, default=RANKS)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS)
def main(seqlens: tuple[int, ...], ranks: tuple[int, ...], output: Path) -> None:
    from benchmarks.context_parallel import NAMES, mask_of

    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for seqlen, name in itertools.product(seqlens, (*NAMES, "prefix_tree")):
            mask = mask_of(name, seqlen)
            for number, (way, share) in itertools.product(ranks, SHARES.items()):
                counts = count(share(mask, number))
                lists = (" ".join(map(str, getattr(counts, field))) for field in ("pairs", "near", "far", "all"))
                writer.writerow((name, seqlen, number, way, *lists, counts.messages))
            print(name, seqlen, flush=True)


if __name__ == "__main__":
    main()
