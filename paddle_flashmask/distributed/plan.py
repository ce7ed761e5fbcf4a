"""The plan of one rank: which keys it receives from and sends to every other rank, and the calls of the operator.

Every rank derives its plan from the mask and from the rows of all ranks, so the plans agree without communication.
NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import columns as column_math
from .rows import Ranges, count, positions, row_numbers

ALIGNMENT = 16  # blocks of the dropout pattern (csrc/core/dropout.h)
_GAP = 128  # shorter runs of unseen keys are sent too, to keep the ranges few


@dataclass(frozen=True, eq=False)
class Call:
    """One call of the operator: rows [begin, end) of this rank against keys [begin, end) of a piece.

    `startend_row_indices` is int32 [B, Hm, keys, n] for causal=False. `dropout_row` and `dropout_key` are the places
    of the first row and key in the sequence.
    """

    rows: tuple[int, int]
    keys: tuple[int, int]
    startend_row_indices: np.ndarray
    dropout_row: int = 0
    dropout_key: int = 0


@dataclass(frozen=True, eq=False)
class Piece:
    """Keys of one rank that another rank sees: ranges of the owner's keys, and the calls of the rank that sees them."""

    ranges: Ranges
    calls: tuple[Call, ...] = ()

    @property
    def keys(self) -> int:
        """Number of keys."""
        return count(self.ranges)


@dataclass(frozen=True, eq=False)
class Plan:
    """The pieces of one rank.

    Attributes:
        rank: the rank in its group.
        received: the piece of every owner, with its calls; that of `rank` itself is not sent.
        sent: the piece of this rank's keys for every other rank, without calls.
    """

    rank: int
    received: tuple[Piece, ...]
    sent: tuple[Piece, ...]


def make_plan(columns: np.ndarray, rows: tuple[Ranges, ...], rank: int, in_blocks: bool = False) -> Plan:
    """Return the plan of `rank` for the columns of the whole sequence, int32 [B, Hm, Sk, 6].

    A piece needs one call, because rows and keys of the calls are those that a rank holds side by side. `in_blocks`
    makes a call for every pair of ranges instead, whose rows and keys lie side by side in the sequence: the dropout
    pattern depends on their places there.
    """
    seqlen = columns.shape[2]
    held = [positions(ranges, seqlen) for ranges in rows]
    numbers = [row_numbers(ranges) for ranges in rows]

    own = columns[:, :, numbers[rank]]
    sent = tuple(
        Piece(() if other == rank else runs_of_seen(column_math.seen_by(own, held[other]), rows[rank]))
        for other in range(len(rows))
    )
    received = []
    for owner in range(len(rows)):
        local = column_math.columns_of_rows(columns[:, :, numbers[owner]], held[rank])
        ranges = runs_of_seen(column_math.seen_keys(local), rows[owner])
        places = row_numbers(ranges)  # among the owner's keys
        if in_blocks:
            calls = _calls_of_blocks(columns, rows[rank], numbers[owner], ranges)
        else:
            calls = _calls(local[:, :, places], count(rows[rank]))
        received.append(Piece(ranges, tuple(calls)))
    return Plan(rank, tuple(received), sent)


def runs_of_seen(seen: np.ndarray, ranges: Ranges) -> Ranges:
    """Return the runs of seen keys of each range, as ranges of the owner's keys."""
    runs, first = [], 0
    for begin, end in ranges:
        places = np.flatnonzero(seen[first : first + end - begin])
        if len(places):
            gaps = np.flatnonzero(np.diff(places) > _GAP)
            starts = places[np.concatenate([[0], gaps + 1])] // ALIGNMENT * ALIGNMENT
            stops = places[np.concatenate([gaps, [-1]])] + 1
            runs += [(first + int(start), first + int(stop)) for start, stop in zip(starts, stops, strict=True)]
        first += end - begin
    return tuple(runs)


def _calls(local: np.ndarray, rows: int, first_row: int = 0, first_key: int = 0) -> Iterator[Call]:
    """Yield calls for columns of `rows` rows, cut to the rows and keys that see each other."""
    for layer in column_math.layers(local, rows):
        seen = np.flatnonzero(column_math.seen_keys(layer))
        if not len(seen):
            continue
        keys = int(seen[0]) // ALIGNMENT * ALIGNMENT, int(seen[-1]) + 1
        layer = layer[:, :, slice(*keys)]
        visible = layer[..., 0] < layer[..., 1]
        begin = int(layer[..., 0][visible].min()) // ALIGNMENT * ALIGNMENT
        end = int(layer[..., 1][visible].max())
        shift = np.clip(np.arange(rows + 1, dtype=np.int32) - begin, 0, end - begin)
        cut = column_math.columns_of_rows(layer, shift)
        yield Call(
            (first_row + begin, first_row + end),
            (first_key + keys[0], first_key + keys[1]),
            column_math.hidden_intervals(cut, end - begin),
        )


def _calls_of_blocks(columns: np.ndarray, rows: Ranges, numbers: np.ndarray, ranges: Ranges) -> Iterator[Call]:
    """Yield calls for every range of rows and every range of an owner's keys, with their places in the sequence."""
    seqlen, first_row = columns.shape[2], 0
    for begin, end in rows:
        held, first_key = positions(((begin, end),), seqlen), 0
        for key_begin, key_end in ranges:
            keys = numbers[key_begin:key_end]
            local = column_math.columns_of_rows(columns[:, :, keys], held)
            for call in _calls(local, end - begin):
                yield Call(
                    (first_row + call.rows[0], first_row + call.rows[1]),
                    (first_key + call.keys[0], first_key + call.keys[1]),
                    call.startend_row_indices,
                    begin + call.rows[0],
                    int(keys[0]) + call.keys[0],
                )
            first_key += key_end - key_begin
        first_row += end - begin
