"""Random column masks by kind for any Sq and Sk: int32 [B, Hm, Sk, n], and whether the mask is causal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Sample = tuple[np.ndarray | None, bool]
_SAMPLERS: dict[str, Callable[[np.random.Generator, int, int], Sample]] = {}


def _kind(sampler: Callable[[np.random.Generator, int, int], Sample]) -> Callable:
    _SAMPLERS[sampler.__name__.strip("_")] = sampler
    return sampler


def kinds() -> list[str]:
    return list(_SAMPLERS)


def sample_mask(
    kind: str, rng: np.random.Generator, batch: int, heads: int, seqlen_q: int, seqlen_k: int, varied: bool = True
) -> Sample:
    """Mask of a kind. varied: draw one for each batch and head instead of repeating one."""
    drawn = [_SAMPLERS[kind](rng, seqlen_q, seqlen_k) for _ in range(batch * heads if varied else 1)]
    causal = drawn[0][1]
    if drawn[0][0] is None:
        return None, causal
    columns = np.stack([columns for columns, _ in drawn]).astype(np.int32)
    columns = np.broadcast_to(columns, (batch * heads, *columns.shape[1:])) if len(drawn) == 1 else columns
    return np.ascontiguousarray(columns.reshape(batch, heads, seqlen_k, -1)), causal


def _documents(rng: np.random.Generator, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of the document of each of `length` positions."""
    cuts = np.unique(np.concatenate([[0, length], rng.integers(0, length + 1, rng.integers(0, 6))]))
    which = np.searchsorted(cuts, np.arange(length), side="right") - 1
    return cuts[which], cuts[which + 1] if length else cuts[which]


def _random_bounds(rng: np.random.Generator, seqlen_q: int, seqlen_k: int, n: int) -> np.ndarray:
    """Arbitrary bounds, including reversed, empty, negative and too large ones."""
    bounds = rng.integers(-2, seqlen_q + 3, (seqlen_k, n))
    extreme = rng.random((seqlen_k, n)) < 0.05
    return np.where(extreme, rng.choice([-(2**31), -1, 0, seqlen_q, seqlen_q + 1, 2**31 - 1], (seqlen_k, n)), bounds)


@_kind
def full(rng, seqlen_q, seqlen_k):
    return None, False


@_kind
def causal(rng, seqlen_q, seqlen_k):
    return None, True


@_kind
def random_1(rng, seqlen_q, seqlen_k):
    return _random_bounds(rng, seqlen_q, seqlen_k, 1), True


@_kind
def random_2_causal(rng, seqlen_q, seqlen_k):
    return _random_bounds(rng, seqlen_q, seqlen_k, 2), True


@_kind
def random_2(rng, seqlen_q, seqlen_k):
    return _random_bounds(rng, seqlen_q, seqlen_k, 2), False


@_kind
def random_4(rng, seqlen_q, seqlen_k):
    return _random_bounds(rng, seqlen_q, seqlen_k, 4), False


@_kind
def narrow_holes_4(rng, seqlen_q, seqlen_k):
    """Two short intervals in either order, so that most tiles are partial and none is empty."""
    start = rng.integers(0, seqlen_q + 1, (seqlen_k, 2))
    end = start + rng.integers(0, 4, (seqlen_k, 2))
    return np.stack([start[:, 0], end[:, 0], start[:, 1], end[:, 1]], axis=-1), False


@_kind
def wide_holes_2_causal(rng, seqlen_q, seqlen_k):
    """One long interval for runs of keys, so that tiles inside the visible range are empty."""
    start, end = np.sort(rng.integers(0, seqlen_q + 1, 2))
    columns = np.tile([[start, end]], (seqlen_k, 1))
    columns[rng.random(seqlen_k) < 0.02] = seqlen_q
    return columns, True


@_kind
def causal_document(rng, seqlen_q, seqlen_k):
    _, end = _documents(rng, seqlen_k)
    return end[:, None] - (seqlen_k - seqlen_q), True


@_kind
def document(rng, seqlen_q, seqlen_k):
    start, end = _documents(rng, seqlen_k)
    return np.stack([end, start], axis=-1) - (seqlen_k - seqlen_q), False


@_kind
def sliding_window(rng, seqlen_q, seqlen_k):
    width = rng.integers(1, seqlen_q // 2 + 2)
    return (np.arange(seqlen_k) + width - (seqlen_k - seqlen_q))[:, None], True


@_kind
def global_sliding_window(rng, seqlen_q, seqlen_k):
    width = rng.integers(1, seqlen_q // 4 + 2)
    first = rng.integers(0, 20)
    key = np.arange(seqlen_k)
    bounds = np.stack([key + width, np.full(seqlen_k, seqlen_q), np.full(seqlen_k, first), key - width], axis=-1)
    bounds[:first] = seqlen_q
    return bounds, False


@_kind
def share_question(rng, seqlen_q, seqlen_k):
    start, end = _documents(rng, seqlen_k)
    question = start == 0
    return np.where(question, seqlen_q, end)[:, None], True


@_kind
def prefix_document(rng, seqlen_q, seqlen_k):
    start, end = _documents(rng, seqlen_k)
    key = np.arange(seqlen_k)
    prefix = key < start + (end - start) // 3
    return np.stack([end, np.where(prefix, start, key)], axis=-1), False


@_kind
def causal_blockwise(rng, seqlen_q, seqlen_k):
    start, end = _documents(rng, seqlen_k)
    last = start.max(initial=0)
    return np.stack([end, np.where(start < last, last, end)], axis=-1), True


@_kind
def random_eviction(rng, seqlen_q, seqlen_k):
    evicted = np.arange(seqlen_k) + rng.integers(0, seqlen_q + 1, seqlen_k)
    return np.where(rng.random(seqlen_k) < 0.5, seqlen_q + 1, evicted)[:, None], True


@_kind
def stripes(rng, seqlen_q, seqlen_k):
    """Bands of hidden rows shared by all keys, so that many queries see no key."""
    start, end = np.sort(rng.integers(0, seqlen_q + 1, 2))
    return np.tile([[start, end, 0, min(3, seqlen_q)]], (seqlen_k, 1)), False


@_kind
def nothing_visible(rng, seqlen_q, seqlen_k):
    return np.zeros((seqlen_k, 1), dtype=np.int64), True


@_kind
def dead_columns(rng, seqlen_q, seqlen_k):
    """Keys that no query sees, single and in runs."""
    columns = np.tile([[seqlen_q, 0]], (seqlen_k, 1))
    columns[rng.random(seqlen_k) < 0.3] = [0, seqlen_q]
    columns[: seqlen_k // 2] = [0, 0]
    return columns, False
