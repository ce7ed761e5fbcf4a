from __future__ import annotations

from typing import Any

import numpy as np

from ._assemble import column_mask
from ._inputs import integer
from .column_mask import ColumnMask


def hash_sparse(first_query: Any, end_query: Any) -> ColumnMask:
    """Attention within hash buckets, with queries and keys sorted by bucket: each key is seen by one run of queries
    (arXiv 2410.01359, figure 1, mask 11).

    ``hash_bucket_queries`` finds the runs from the bucket numbers of the queries and keys.

    Args:
        first_query: integers [S] or [B, S], the first query that sees each key.
        end_query: integers of the same shape, one past the last query that sees each key. A run with first >= end is
            empty: no query sees the key.

    Returns:
        Values (LTS, UTE), not causal.

    Raises:
        TypeError: values that are not integers.
        ValueError: shapes that differ or have more than two axes, or a value outside [0, S].
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
    """Find the queries that see each key in attention within hash buckets (arXiv 2306.01160).

    Args:
        query_buckets: integers [S] or [B, S] in ascending order, the bucket of each query after sorting.
        key_buckets: integers of the same shape in ascending order, the bucket of each key after sorting.
        query_positions: integers of the same shape, the position of each query before sorting; ascending within each
            bucket, as a stable sort leaves them. With ``key_positions`` attention is also causal: a query sees no key
            of a later position.
        key_positions: integers of the same shape, the position of each key before sorting, in any order.

    Returns:
        (first_query, end_query), int64 [B, S] each, for ``hash_sparse``.

    Raises:
        TypeError: values that are not integers.
        ValueError: shapes that differ or have more than two axes, buckets or query positions that do not ascend, or
            positions of one side only.
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
    # Ranks turn (bucket, position) into one number that ascends with the queries, so one binary search finds the run.
    bucket_of = np.unique(np.stack([queries, keys]), return_inverse=True)[1].reshape(2, *queries.shape)
    position_of = np.unique(np.stack([query_at, key_at]), return_inverse=True)[1].reshape(2, *queries.shape)
    query_place, key_place = bucket_of * (queries.size * 2 + 1) + position_of
    first = np.stack([np.searchsorted(q, k, side="left") for q, k in zip(query_place, key_place, strict=True)])
    end = np.stack([np.searchsorted(q, k, side="right") for q, k in zip(*bucket_of, strict=True)])
    return first, end


def hash_random_tokens(seqlen: int, buckets: int, seed: int = 0) -> ColumnMask:
    """Build the causal ``hash_sparse`` mask of ``seqlen`` tokens hashed at random into ``buckets`` buckets.

    The same ``seed`` (of ``numpy.random.default_rng``) gives the same mask.
    """
    seqlen, buckets = integer("seqlen", seqlen), integer("buckets", buckets, 1)
    hashed = np.random.default_rng(integer("seed", seed, bits=64)).integers(0, buckets, size=(2, seqlen))
    query_order, key_order = np.argsort(hashed, axis=1, kind="stable")
    return hash_sparse(*hash_bucket_queries(hashed[0][query_order], hashed[1][key_order], query_order, key_order))


def _integers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape [S] or [B, S], got {array.shape}")
    return np.atleast_2d(array.astype(np.int64))
