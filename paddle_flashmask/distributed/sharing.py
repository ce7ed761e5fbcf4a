"""How the rows of a sequence are shared out to ranks, and what that costs. NumPy only.

A rank computes the visible pairs of its rows, in the forward and in the backward pass, so its time follows their exact
number. Keys that rows of another rank see are sent there once in each pass, and their gradients come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paddle_flashmask.masks import ColumnMask
from paddle_flashmask.masks._inputs import integer

from .columns import seen_by
from .plan import runs_of_seen
from .rows import Ranges, count, positions, row_numbers

_TILE = 128  # rows of a tile of the kernels: shorter chunks leave more of its tiles partial
_BLOCK = 16  # of the dropout pattern
_CHUNKS = 16  # of a rank, at least, so that there is something to swap


@dataclass(frozen=True, eq=False)
class RowShares:
    """Rows of every rank, with exact costs.

    Attributes:
        mask: the mask of the whole sequence.
        rows: the ranges of every rank, the argument `rows` of `flashmask_attention`.
        pairs: int64 [ranks], visible pairs of the rows of each rank, summed over batch rows and mask heads.
    """

    mask: ColumnMask
    rows: tuple[Ranges, ...]
    pairs: np.ndarray

    @cached_property
    def sent(self) -> np.ndarray:
        """int64 [ranks, ranks]: keys of rank i that rank j receives; 0 where i = j. O(ranks * N), on first use."""
        columns = self.mask.columns()
        numbers = [row_numbers(ranges) for ranges in self.rows]
        sent = np.zeros((len(self.rows), len(self.rows)), dtype=np.int64)
        for reader, ranges in enumerate(self.rows):
            seen = seen_by(columns, positions(ranges, self.mask.seqlen_q))
            for owner, theirs in enumerate(self.rows):
                if owner != reader:
                    sent[owner, reader] = count(runs_of_seen(seen[numbers[owner]], theirs))
        return sent

    @property
    def balance(self) -> float:
        """Pairs of the slowest rank over the mean, 1.0 at best (also without pairs)."""
        return float(self.pairs.max() / self.pairs.mean()) if self.pairs.any() else 1.0

    @property
    def row_balance(self) -> float:
        """Most rows of a rank over the mean: the ratio of its activation memory."""
        counts = [count(ranges) for ranges in self.rows]
        return max(counts) * len(counts) / sum(counts) if sum(counts) else 1.0

    def bytes_sent(
        self, heads_kv: int, head_dim: int, head_dim_v: int | None = None, *, batch: int = 1, itemsize: int = 2
    ) -> np.ndarray:
        """Return int64 [ranks]: bytes that each rank sends in both passes of one call.

        Keys and values leave their owner in either pass, and their gradients go back in the backward pass. `itemsize`
        is the number of bytes of an element.
        """
        per_key = batch * heads_kv * (head_dim + (head_dim if head_dim_v is None else head_dim_v)) * itemsize
        return per_key * (2 * self.sent.sum(axis=1) + self.sent.sum(axis=0))

    def __str__(self) -> str:
        lines = [f"balance   {self.balance:.3f} (pairs of the slowest rank over the mean)"]
        for rank, ranges in enumerate(self.rows):
            lines.append(
                f"rank {rank:<4} {count(ranges):,} rows in {len(ranges)} ranges, {self.pairs[rank]:,} pairs, "
                f"{self.sent[rank].sum():,} keys sent, {self.sent[:, rank].sum():,} received"
            )
        return "\n".join(lines)


def share_rows(mask: ColumnMask, ranks: int, *, chunk: int | None = None, tolerance: float = 1.05) -> RowShares:
    """Share out the rows so that every rank has about as many rows, and as many visible pairs, as the others.

    It starts with contiguous rows, which send the fewest keys where rows see what is near, and swaps chunks between the
    ranks with the most and the fewest pairs. Chunks are as long as the tolerance allows. O(N) in the sequence.

    Args:
        mask: a mask with as many rows as keys.
        ranks: number of ranks, at least 1.
        chunk: shortest chunk of rows, and the unit of all others; with dropout a multiple of 16. By default 128, the
            rows of a tile, or less where a rank has fewer than 16 of these.
        tolerance: balance of pairs and of rows (the most of a rank over the mean) at which longer chunks are good
            enough.

    Raises:
        TypeError, ValueError: another mask, or numbers that are no integers or too small.
    """
    _check(mask, ranks)
    if chunk is None:
        chunk = min(max(mask.seqlen_q // (_CHUNKS * ranks) // _BLOCK * _BLOCK, _BLOCK), _TILE)
    integer("chunk", chunk, 1)
    per_row = pairs_of_rows(mask)
    best, best_imbalance = None, np.inf
    units = -(-mask.seqlen_q // chunk)
    unit_count = max(1, units // ranks)
    while True:
        length = unit_count * chunk
        holders, pairs = _swapped(_chunk_sums(per_row, length), ranks, tolerance)
        shares = RowShares(mask, tuple(_rows_of_chunks(holders, length, mask.seqlen_q, ranks)), pairs)
        imbalance = max(shares.balance, shares.row_balance)
        if imbalance < best_imbalance:
            best, best_imbalance = shares, imbalance
        if best_imbalance <= tolerance or unit_count == 1:
            return best
        unit_count //= 2


def zigzag(mask: ColumnMask, ranks: int) -> RowShares:
    """Return the usual shares for causal masks: of 2 * ranks equal chunks, rank i has chunk i and the i-th last."""
    _check(mask, ranks)
    bounds = [round(mask.seqlen_q * place / (2 * ranks)) for place in range(2 * ranks + 1)]
    chunks = list(zip(bounds[:-1], bounds[1:], strict=True))
    return _shares(mask, [_joined([chunks[rank], chunks[-1 - rank]]) for rank in range(ranks)], pairs_of_rows(mask))


def contiguous(mask: ColumnMask, ranks: int) -> RowShares:
    """Return shares of equally many rows side by side."""
    _check(mask, ranks)
    bounds = [round(mask.seqlen_q * place / ranks) for place in range(ranks + 1)]
    rows = [_joined([pair]) for pair in zip(bounds[:-1], bounds[1:], strict=True)]
    return _shares(mask, rows, pairs_of_rows(mask))


def pairs_of_rows(mask: ColumnMask) -> np.ndarray:
    """Return int64 [Sq]: the visible pairs of every row, summed over batch rows and mask heads. O(Sq + Sk)."""
    columns = mask.columns().reshape(-1, 6)
    steps = np.zeros(mask.seqlen_q + 1, dtype=np.int64)
    for begin, end, sign in ((0, 1, 1), (2, 3, -1), (4, 5, -1)):
        present = columns[columns[:, begin] < columns[:, end]]
        for bound, step in ((begin, sign), (end, -sign)):
            steps += step * np.bincount(present[:, bound], minlength=len(steps))
    return np.cumsum(steps[:-1])


def _check(mask: ColumnMask, ranks: int) -> None:
    if not isinstance(mask, ColumnMask):
        raise TypeError(f"mask is {type(mask).__name__}, expected a ColumnMask")
    if mask.seqlen_q != mask.seqlen_k:
        raise ValueError(f"the mask has {mask.seqlen_q} rows and {mask.seqlen_k} keys, expected equally many")
    integer("ranks", ranks, 1)


def _chunk_sums(per_row: np.ndarray, length: int) -> np.ndarray:
    return np.add.reduceat(per_row, np.arange(0, len(per_row), length)) if len(per_row) else np.zeros(0, np.int64)


def _swapped(chunks: np.ndarray, ranks: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of every chunk and the pairs of every rank, from contiguous chunks by swaps of two chunks."""
    holders = np.arange(len(chunks)) * ranks // max(len(chunks), 1)
    pairs = np.bincount(holders, weights=chunks, minlength=ranks).astype(np.int64)
    for _ in range(4 * len(chunks)):
        most = int(pairs.argmax())
        if pairs[most] <= tolerance * pairs.mean():
            break
        for other in np.argsort(pairs, kind="stable"):
            members = (np.flatnonzero(holders == rank) for rank in (most, other))
            swap = _best_swap(chunks, *members, pairs[most] - pairs[other])
            if swap is not None:
                break
        else:
            break
        given, taken = swap
        holders[given], holders[taken] = other, most
        difference = chunks[given] - chunks[taken]
        pairs[most] -= difference
        pairs[other] += difference
    return holders, pairs


def _best_swap(chunks: np.ndarray, given: np.ndarray, taken: np.ndarray, gap: int) -> tuple[int, int] | None:
    """Return the chunks whose swap halves the gap best, None if no swap makes it smaller."""
    if not len(given) or not len(taken):
        return None
    taken = taken[np.argsort(chunks[taken], kind="stable")]
    wanted = chunks[given] - gap / 2
    place = np.searchsorted(chunks[taken], wanted)
    options = [np.clip(place + shift, 0, len(taken) - 1) for shift in (-1, 0)]
    errors = np.stack([np.abs(chunks[taken[option]] - wanted) for option in options])
    which, row = np.unravel_index(errors.argmin(), errors.shape)
    if errors[which, row] >= gap / 2:
        return None
    return int(given[row]), int(taken[options[which][row]])


def _rows_of_chunks(holders: np.ndarray, length: int, seqlen: int, ranks: int) -> list[Ranges]:
    starts = np.arange(len(holders)) * length
    return [
        _joined([(int(begin), min(int(begin) + length, seqlen)) for begin in starts[holders == rank]])
        for rank in range(ranks)
    ]


def _joined(ranges: list[tuple[int, int]]) -> Ranges:
    """Return ascending ranges with adjacent ones as one, and without empty ones."""
    joined: list[tuple[int, int]] = []
    for begin, end in ranges:
        if begin == end:
            continue
        if joined and joined[-1][1] == begin:
            begin = joined.pop()[0]
        joined.append((begin, end))
    return tuple(joined)


def _shares(mask: ColumnMask, rows: list[Ranges], per_row: np.ndarray) -> RowShares:
    """Count the pairs of given rows."""
    pairs = np.array([per_row[row_numbers(ranges)].sum() for ranges in rows], dtype=np.int64)
    return RowShares(mask, tuple(rows), pairs)
