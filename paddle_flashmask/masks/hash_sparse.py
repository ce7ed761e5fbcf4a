from __future__ import annotations

from typing import Any

import numpy as np

from ._assemble import column_mask
from .column_mask import ColumnMask


def hash_sparse(first_query: Any, end_query: Any) -> ColumnMask:
    """Each key is seen by one run of queries (arXiv 2410.01359, figure 1, mask 11).

    This is attention within hash buckets once queries and keys are sorted by bucket; ``hash_bucket_queries`` finds the
    runs from bucket numbers: ``hash_sparse(*hash_bucket_queries(query_buckets, key_buckets))``.

    Args:
        first_query: integers [S], or [B, S]: the first query that sees each key.
        end_query: integers of the same shape: one past the last query that sees each key. A run with first >= end is
            empty: nobody sees the key.

    Returns:
        Values (LTS, UTE), not causal.
    """
    first, end = _integers("first_query", first_query), _integers("end_query", end_query)
    if first.shape != end.shape:
        raise ValueError(f"first_query and end_query must have the same shape, got {first.shape} and {end.shape}")
    seqlen = first.shape[1]
    for name, values in (("first_query", first), ("end_query", end)):
        if values.size and not (values.min() >= 0 and values.max() <= seqlen):
            raise ValueError(f"{name} must lie in [0, {seqlen}], got {values.min()} to {values.max()}")
    return column_mask(end, first, causal=False, seqlen=seqlen)


def hash_bucket_queries(
    query_buckets: Any, key_buckets: Any, query_positions: Any = None, key_positions: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The queries that see each key when attention stays within hash buckets (arXiv 2306.01160).

    Args:
        query_buckets: integers [S] or [B, S] in ascending order: the bucket of each query, after sorting.
        key_buckets: the same for the keys.
        query_positions: where each query stood before sorting, of the same shape and ascending within each bucket
            (a stable sort leaves them so). Together with ``key_positions`` it adds causality: a query then sees only
            keys whose position is not after its own.
        key_positions: the same for the keys, in any order within a bucket.

    Returns:
        (first_query, end_query), int64 [B, S] each, for ``hash_sparse``.
    """
    queries, keys = _integers("query_buckets", query_buckets), _integers("key_buckets", key_buckets)
    if queries.shape != keys.shape:
        raise ValueError(
            f"query_buckets and key_buckets must have the same shape, got {queries.shape} and {keys.shape}"
        )
    for name, buckets in (("query_buckets", queries), ("key_buckets", keys)):
        if (np.diff(buckets, axis=1) < 0).any():
            raise ValueError(f"{name} must ascend: sort the tokens by bucket first")
    if (query_positions is None) != (key_positions is None):
        raise ValueError("query_positions and key_positions must be given together")
    if query_positions is None:
        query_at = key_at = np.zeros_like(queries)
    else:
        query_at, key_at = _integers("query_positions", query_positions), _integers("key_positions", key_positions)
    for name, positions in (("query_positions", query_at), ("key_positions", key_at)):
        if positions.shape != queries.shape:
            raise ValueError(f"{name} must have the shape of the buckets {queries.shape}, got {positions.shape}")
    if ((np.diff(queries, axis=1) == 0) & (np.diff(query_at, axis=1) < 0)).any():
        raise ValueError("query_positions must ascend within each bucket: sort the tokens stably")
    # Ranks make (bucket, position) one number that ascends with the queries, so one search finds a key's place.
    bucket_of = np.unique(np.stack([queries, keys]), return_inverse=True)[1].reshape(2, *queries.shape)
    position_of = np.unique(np.stack([query_at, key_at]), return_inverse=True)[1].reshape(2, *queries.shape)
    query_place, key_place = bucket_of * (queries.size * 2 + 1) + position_of
    first = np.stack([np.searchsorted(q, k, side="left") for q, k in zip(query_place, key_place, strict=True)])
    end = np.stack([np.searchsorted(q, k, side="right") for q, k in zip(*bucket_of, strict=True)])
    return first, end


def _integers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape [S] or [B, S], got {array.shape}")
    return np.atleast_2d(array.astype(np.int64))
