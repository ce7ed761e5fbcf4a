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


def prefix_tree(parents: Integers, lengths: Integers) -> tuple[np.ndarray]:
    """LTS of nodes in depth-first order, whose tokens see their ancestors' nodes: the end of the node's subtree."""
    ends = np.cumsum(lengths, dtype=np.int32)
    for node in range(len(parents) - 1, -1, -1):
        if parents[node] >= 0:
            ends[parents[node]] = max(ends[parents[node]], ends[node])
    return (_repeat(ends, lengths),)


def shared_prefixes(lengths: Integers, shared: Integers) -> tuple[np.ndarray]:
    """LTS of sequences in the depth-first order of their prefix tree, each laid out without its shared prefix.

    Sequence i has ``lengths[i]`` tokens. Its first ``shared[i]`` are those of sequence i - 1; the others follow in the
    layout. A token is seen up to the first sequence that does not contain it. T is the sum of lengths - shared.
    """
    ends = np.empty(int(np.sum(lengths)) - int(np.sum(shared)), dtype=np.int32)
    path = np.empty(max(lengths, default=0), dtype=np.intp)  # places of the tokens of the last sequence
    place = depth = 0
    for length, prefix in zip(lengths, shared, strict=True):
        ends[path[prefix:depth]] = place
        path[prefix:length] = np.arange(place, place + length - prefix)
        place, depth = place + length - prefix, length
    ends[path[:depth]] = place
    return (ends,)


def sink_window_document(lengths: Integers, sink: int, window: int) -> tuple[np.ndarray]:
    """LTS of causal documents whose tokens see the first ``sink`` and the last ``window`` tokens of the document."""
    end, start = document(lengths)
    (window_end,) = sliding_window_document(lengths, window)
    return (np.where(np.arange(len(end), dtype=np.int32) - start < sink, end, window_end),)


def chunked_document(lengths: Integers, chunk: int) -> tuple[np.ndarray]:
    """LTS of causal documents cut into chunks of ``chunk`` tokens that are blind to each other: the chunk's end."""
    end, start = document(lengths)
    chunk = min(chunk, len(end))
    offset = np.arange(len(end), dtype=np.int32) - start
    return (start + np.minimum(end - start, (offset // max(chunk, 1) + 1) * chunk),)


def multi_token_prediction(lengths: Integers, depth: int, window: int) -> tuple[np.ndarray]:
    """LTS of causal documents with windows, without the last ``depth`` rows of each, which see and show nothing."""
    end, start = document(lengths)
    (window_end,) = sliding_window_document(lengths, window)
    return (np.minimum(window_end, np.maximum(start, end - min(depth, len(end)))),)


def image_spans(lengths: Integers, spans: Sequence[tuple[int, int]], window: int) -> tuple[np.ndarray, np.ndarray]:
    """LTS and UTE of causal documents with windows, in which each (offset, length) span also sees all of itself."""
    (window_end,) = sliding_window_document(lengths, window)
    first_query = np.arange(len(window_end), dtype=np.int32)
    for offset, length in spans:
        span = slice(offset, offset + length)
        window_end[span] = np.maximum(window_end[span], offset + length)
        first_query[span] = offset
    return window_end, first_query


def block_diffusion(lengths: Integers, block: int) -> tuple[np.ndarray, np.ndarray]:
    """LTS and UTE of documents whose blocks are noised, clean, noised, clean, ...: [2 * T].

    A noised block is seen by itself; a clean block by itself and by the rest of the document.
    """
    pieces = block_diffusion_pieces(lengths, block)
    ends = np.cumsum(pieces, dtype=np.int32)
    starts = ends - pieces
    (document_ends,) = causal_document(2 * np.asarray(lengths, dtype=np.int32))
    is_noised = _repeat(np.arange(len(pieces)) % 2 == 0, pieces)
    return np.where(is_noised, _repeat(ends, pieces), document_ends), _repeat(starts, pieces)


def block_diffusion_pieces(lengths: Integers, block: int) -> np.ndarray:
    """int32: lengths of the noised and the clean copy of each block in turn. A document's last block may be short."""
    blocks = [min(block, length - first) for length in lengths for first in range(0, length, block)]
    return np.repeat(np.asarray(blocks, dtype=np.int32), 2)


def causal_blockwise(lengths: Integers) -> tuple[np.ndarray, np.ndarray]:
    """LTS and LTE of causal demonstrations, blind to each other, and a last document that sees them all."""
    (end,) = causal_document(lengths)
    test_start = len(end) - (lengths[-1] if len(lengths) else 0)
    blind = end < test_start
    total = np.int32(len(end))
    return np.where(blind, end, total), np.where(blind, np.int32(test_start), total)
