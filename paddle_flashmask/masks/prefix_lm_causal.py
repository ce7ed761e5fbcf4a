from __future__ import annotations

from . import _columns
from ._assemble import padded_mask
from ._inputs import Lengths, integer, per_batch, same_batch, sequence_lengths
from .column_mask import ColumnMask


def prefix_lm_causal(seqlen: int, prefix: Lengths, *, length: Lengths | None = None) -> ColumnMask:
    """A prefix language model, as T5 and GLM train it: every token sees the prefix, and attention is causal after it
    (arXiv 2410.01359, figure 1, mask 9).

    Args:
        seqlen: S.
        prefix: prefix length, one number or one per batch row; at most the row's length.
        length: tokens that are not padding, one number or one per batch row (default: all). Padding tokens see nothing
            and no token sees them.

    Returns:
        Values (LTS, UTE), not causal.

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a negative integer, a length greater than ``seqlen``, a prefix greater than its row's length, or
            numbers of batch rows that differ.
    """
    seqlen = integer("seqlen", seqlen)
    lengths, prefixes = sequence_lengths(seqlen, length), per_batch("prefix", prefix)
    same_batch(prefix=prefixes, length=lengths)
    batch = max(len(prefixes), len(lengths))
    rows = list(zip(_expand(lengths, batch), _expand(prefixes, batch), strict=True))
    for b, (n, p) in enumerate(rows):
        if p > n:
            raise ValueError(f"prefix {p} of batch row {b} is longer than the sequence, {n}")
    return padded_mask([_columns.prefix_lm_document([n], [p]) for n, p in rows], causal=False, seqlen=seqlen)


def _expand(values: list[int], batch: int) -> list[int]:
    return values * batch if len(values) == 1 else values
