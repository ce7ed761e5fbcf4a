"""Agreement before the first message: every rank learns whether all ranks have valid and equal arguments.

A rank that raises alone would leave the others waiting for its keys. So each rank first tells the others whether its
arguments are valid, and checksums of those that all ranks share; then all ranks raise, or none.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .exchange import Exchange
from .rows import Ranges

_REFUSED, _VALID = 0, 1


class PeerError(RuntimeError):
    """Another rank of the group has refused its arguments; its own error names the reason."""


@dataclass(frozen=True, eq=False)
class Shared:
    """What must be equal on every rank; the names appear in errors."""

    rows: tuple[Ranges, ...]
    startend_row_indices: np.ndarray | None
    causal: bool
    window_size: tuple[int, int]
    batch_and_heads: tuple[int, ...]
    dtype: str
    dropout: float
    softmax_scale: float
    learnable_sink: bool
    fixed_seed_offset: tuple[int, int] | None
    needs_gradients: bool


def refuse(exchange: Exchange) -> None:
    """Tell the other ranks, which are in `agree`, that this rank refuses its arguments. Raises nothing."""
    exchange.gather([_REFUSED] * (len(fields(Shared)) + 3))


def agree(exchange: Exchange, shared: Shared, stream: tuple[int, int]) -> tuple[int, int]:
    """Compare the arguments of all ranks and return the dropout stream (seed, offset) of rank 0.

    Raises:
        PeerError: another rank refuses its arguments.
        ValueError: an argument differs between ranks. Every rank raises it.
    """
    names = [field.name for field in fields(Shared)]
    states = exchange.gather([_VALID, *(_checksum(getattr(shared, name)) for name in names), *stream])
    refusing = [rank for rank, state in enumerate(states) if state[0] == _REFUSED]
    if refusing:
        raise PeerError(f"ranks {refusing} of the group have refused their arguments; their errors name the reason")
    for place, name in enumerate(names, start=1):
        others = [rank for rank, state in enumerate(states) if state[place] != states[0][place]]
        if others:
            raise ValueError(f"{name} of ranks {others} differs from that of rank 0, expected the same on every rank")
    return tuple(states[0][-2:])


def _checksum(value: Any) -> int:
    """Return the CRC-32 of an array, or of the text of anything else."""
    if isinstance(value, np.ndarray):
        return zlib.crc32(np.ascontiguousarray(value), zlib.crc32(str(value.shape).encode()))
    return zlib.crc32(repr(value).encode())
