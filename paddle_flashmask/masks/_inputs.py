"""Checks of what mask builders are given: lengths, documents and windows, for one sequence or one per batch row."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Lengths = int | Sequence[int]
"""One value for every batch row, or one per batch row."""

Documents = Sequence[int] | Sequence[Sequence[int]]
"""Document lengths of one sequence, or a list of such lists, one per batch row. Documents of length 0 are allowed."""

Spans = Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]]
"""(offset, length) of spans of one sequence, or a list of such lists, one per batch row."""

Padding = Literal["hidden", "document"]
"""Tokens after the last document: "hidden" (they see nothing and no token sees them) or one more "document"."""


def integer(name: str, value: Any, minimum: int = 0, bits: int = 31) -> int:
    """Return ``value`` as an int in [minimum, 2^bits). TypeError for anything but an integer, ValueError outside."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if not minimum <= number < 2**bits:
        raise ValueError(f"{name} must be at least {minimum} and less than 2^{bits}, got {number}")
    return number


def is_list(value: Any) -> bool:
    """True for a list, a tuple or an array with at least one axis."""
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def per_batch(name: str, value: Any, minimum: int = 0) -> list[int]:
    """Read one integer, or a non-empty list with one per batch row."""
    if not is_list(value):
        return [integer(name, value, minimum)]
    if len(value) == 0:
        raise ValueError(f"{name} must be an integer or one per batch row, got an empty list")
    return [integer(f"{name}[{row}]", item, minimum) for row, item in enumerate(value)]


def same_batch(**values: list) -> None:
    """Raise ValueError unless all lists with more than one entry have the same number of entries."""
    sizes = {name: len(value) for name, value in values.items() if len(value) > 1}
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"arguments disagree about the batch size: {got}")


def sequence_lengths(seqlen: int, length: Lengths | None) -> list[int]:
    """Tokens of each batch row that are not padding; ``seqlen`` where ``length`` is None."""
    lengths = [seqlen] if length is None else per_batch("length", length)
    for row, value in enumerate(lengths):
        if value > seqlen:
            raise ValueError(f"length {value} of batch row {row} is greater than seqlen {seqlen}")
    return lengths


def window_sides(window: Any) -> tuple[int, int]:
    """Return (left, right) from a pair, or from one integer for both sides."""
    if not is_list(window):
        side = integer("window", window)
        return side, side
    if len(window) != 2:
        raise ValueError(f"window must be an integer or (left, right), got {window!r}")
    return integer("window[0]", window[0]), integer("window[1]", window[1])


def document_lists(name: str, documents: Any) -> list[list[int]]:
    """Document lengths per batch row."""
    if not is_list(documents):
        raise TypeError(f"{name} must be a list of lengths or one such list per batch row, got {documents!r}")
    batched = len(documents) > 0 and all(is_list(row) for row in documents)
    rows = documents if batched else [documents]
    return [
        [integer(f"{name}[{b}][{d}]" if batched else f"{name}[{d}]", length) for d, length in enumerate(row)]
        for b, row in enumerate(rows)
    ]


def span_lists(name: str, spans: Any) -> list[list[tuple[int, int]]]:
    """(offset, length) of the spans of each batch row, in ascending order and without overlap."""
    expected = f"{name} must be a list of (offset, length) or one such list per batch row"
    if not is_list(spans) or not all(is_list(item) for item in spans):
        raise TypeError(f"{expected}, got {spans!r}")
    batched = len(spans) > 0 and all(is_list(span) for row in spans for span in row)
    rows = []
    for b, row in enumerate(spans if batched else [spans]):
        place = f"{name}[{b}]" if batched else name
        for s, span in enumerate(row):
            if not is_list(span) or len(span) != 2:
                raise ValueError(f"{expected}; {place}[{s}] is {span!r}")
        rows.append(
            [(integer(f"{place}[{s}] offset", o), integer(f"{place}[{s}] length", n)) for s, (o, n) in enumerate(row)]
        )
        if any(offset < last + count for (last, count), (offset, _) in itertools.pairwise(rows[-1])):
            raise ValueError(f"{name} spans of batch row {b} must ascend without overlap, got {rows[-1]}")
    return rows


def order_text(order: Sequence[int], shown: int = 16) -> str:
    """The first places of an order, for an error message."""
    return f"[{', '.join(map(str, order[:shown]))}{', ...' if len(order) > shown else ''}]"


def total_length(totals: Sequence[int], seqlen: int | None, name: str = "documents") -> int:
    """Return ``seqlen``, or the longest total where it is None. ValueError where a total does not fit."""
    if seqlen is None:
        return integer(f"the total length of the {name}", max(totals))
    seqlen = integer("seqlen", seqlen)
    for row, total in enumerate(totals):
        if total > seqlen:
            raise ValueError(f"{name} of batch row {row} hold {total} tokens, more than seqlen {seqlen}")
    return seqlen


def lay_out(lengths: list[list[int]], seqlen: int | None, padding: Padding) -> tuple[int, list[list[int]]]:
    """Return S, and for each batch row the lengths of the documents that its padding forms: one or none."""
    if padding not in ("hidden", "document"):
        raise ValueError(f"padding must be 'hidden' or 'document', got {padding!r}")
    totals = [sum(row) for row in lengths]
    seqlen = total_length(totals, seqlen)
    return seqlen, [[seqlen - total] if padding == "document" else [] for total in totals]
