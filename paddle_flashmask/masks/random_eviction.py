from __future__ import annotations

import numpy as np

from ._inputs import integer
from .column_mask import ColumnMask


def random_eviction(seqlen: int, start: int, *, batch: int = 1, heads: int = 1, seed: int = 0) -> ColumnMask:
    """Training for a key-value cache of fixed size that evicts at random (arXiv 2410.01359, figure 1, mask 12).

    From row ``start`` on, each new token evicts one older key, chosen uniformly among those in the cache; no later row
    sees that key. Every row sees ``min(row + 1, start)`` keys, itself among them.

    Args:
        seqlen: S.
        start: cache size, which is the first row that evicts; at least 1.
        batch: B.
        heads: Hm; every batch row and head evicts on its own.
        seed: seed of ``numpy.random.default_rng``; the same seed gives the same mask.

    Returns:
        Values (LTS), causal, shape [B, Hm, S, 1].

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a negative integer, or ``start`` of 0.
    """
    seqlen, start = integer("seqlen", seqlen), integer("start", start, 1)
    batch, heads = integer("batch", batch), integer("heads", heads)
    maps = batch * heads
    first_hidden = np.full((seqlen, maps), seqlen, dtype=np.int32)
    rng = np.random.default_rng(integer("seed", seed, bits=64))
    slots = rng.integers(0, start, size=(max(0, seqlen - start), maps))
    kept = np.repeat(np.arange(min(start, seqlen))[:, None], maps, axis=1)  # keys in the cache of each map
    every_map = np.arange(maps)
    for row, slot in enumerate(slots, start=start):
        first_hidden[kept[slot, every_map], every_map] = row
        kept[slot, every_map] = row
    values = first_hidden.T.reshape(batch, heads, seqlen, 1)
    return ColumnMask(np.ascontiguousarray(values), True, seqlen)
