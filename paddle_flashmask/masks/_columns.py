"""The bounds of one sequence of documents: document lengths to the interval ends of every key.

Documents lie end to end from row 0. Every function returns int32 arrays [T], one per bound in the order of
``startend_row_indices`` (LTS, or LTS and UTE), where T is the total length. The mask builders and the packers share
these functions, so each mask is stated once. NumPy only; arguments are not checked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Integers = Sequence[int] | np.ndarray
"""One integer per document."""


def _repeat(values: np.ndarray, lengths: Integers) -> np.ndarray:
    return np.repeat(values, np.asarray(lengths, dtype=np.intp))


def causal_document(lengths: Integers) -> tuple[np.ndarray]:
    """LTS of documents that are causal and blind to each other: the end of the key's document."""
    return (_repeat(np.cumsum(lengths, dtype=np.int32), lengths),)


def document(lengths: Integers) -> tuple[np.ndarray, np.ndarray]:
    """LTS and UTE of documents that are bidirectional and blind to each other: the document's end and start."""
    ends = np.cumsum(lengths, dtype=np.int32)
    starts = ends - np.asarray(lengths, dtype=np.int32)
    return _repeat(ends, lengths), _repeat(starts, lengths)


def prefix_lm_document(lengths: Integers, prefixes: Integers) -> tuple[np.ndarray, np.ndarray]:
    """LTS and UTE of documents whose first ``prefixes`` tokens are seen by the whole document; causal after that."""
    end, start = document(lengths)
    key = np.arange(len(end), dtype=np.int32)
    prefix_end = start + _repeat(np.asarray(prefixes, dtype=np.int32), lengths)
    return end, np.where(key < prefix_end, start, key)


def sliding_window_document(lengths: Integers, window: int) -> tuple[np.ndarray]:
    """LTS of causal documents whose tokens see the last ``window`` tokens of the document, themselves included."""
    (end,) = causal_document(lengths)
    key = np.arange(len(end), dtype=np.int32)
    return (key + np.minimum(end - key, min(window, len(end))),)


def share_question(groups: Sequence[Integers]) -> tuple[np.ndarray]:
    """LTS of [question, answer, ...] groups: a question is seen to the end of its group, an answer to its own end."""
    lengths = [length for group in groups for length in group]
    ends = np.cumsum(lengths, dtype=np.int32)
    question = 0
    for group in groups:
        ends[question] = ends[question + len(group) - 1]
        question += len(group)
    return (_repeat(ends, lengths),)


def causal_blockwise(lengths: Integers) -> tuple[np.ndarray, np.ndarray]:
    """LTS and LTE of causal demonstrations, blind to each other, and a last document that sees them all."""
    (end,) = causal_document(lengths)
    test_start = len(end) - (lengths[-1] if len(lengths) else 0)
    blind = end < test_start
    total = np.int32(len(end))
    return np.where(blind, end, total), np.where(blind, np.int32(test_start), total)
