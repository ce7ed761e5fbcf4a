"""What each mask means, pair by pair: plain loops over tokens and their labels, knowing nothing of columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def dense(seqlen: int, sees: Callable[[int, int], bool]) -> np.ndarray:
    """bool [S, S] from sees(query, key)."""
    out = np.zeros((seqlen, seqlen), dtype=bool)
    for query in range(seqlen):
        for key in range(seqlen):
            out[query, key] = sees(query, key)
    return out


def label_tokens(lengths: list[int], seqlen: int, padding: str = "hidden") -> list[int | None]:
    """The number of the document that each token is in; None for hidden padding."""
    labels: list[int | None] = []
    for document, length in enumerate(lengths):
        labels += [document] * length
    rest = len(lengths) if padding == "document" else None
    return labels + [rest] * (seqlen - len(labels))


def offsets_in_document(labels: list[int | None]) -> list[int]:
    """How many tokens of the same document stand before each token."""
    return [labels[:token].count(label) for token, label in enumerate(labels)]


def full(seqlen: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda query, key: query < length and key < length)


def causal(seqlen: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda query, key: key <= query < length)


def sliding_window(seqlen: int, window: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda query, key: query < length and query - window < key <= query)


def causal_document(lengths: list[int], seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(lengths, seqlen, padding)
    return dense(seqlen, lambda q, k: labels[q] is not None and labels[q] == labels[k] and k <= q)


def document(lengths: list[int], seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(lengths, seqlen, padding)
    return dense(seqlen, lambda q, k: labels[q] is not None and labels[q] == labels[k])


def share_question(groups: list[list[int]], seqlen: int, padding: str) -> np.ndarray:
    tokens: list[tuple[int, int] | None] = []
    for group, pieces in enumerate(groups):
        for piece, length in enumerate(pieces):
            tokens += [(group, piece)] * length
    tokens += [(len(groups), 0) if padding == "document" else None] * (seqlen - len(tokens))

    def sees(query: int, key: int) -> bool:
        if tokens[query] is None or tokens[key] is None or key > query:
            return False
        same_group = tokens[query][0] == tokens[key][0]
        is_question = tokens[key][1] == 0
        return same_group and (is_question or tokens[query] == tokens[key])

    return dense(seqlen, sees)


def global_sliding_window(seqlen: int, global_tokens: int, left: int, right: int, length: int) -> np.ndarray:
    def sees(query: int, key: int) -> bool:
        near = query - left <= key <= query + right
        return query < length and key < length and (near or query < global_tokens or key < global_tokens)

    return dense(seqlen, sees)


def causal_blockwise(lengths: list[int], seqlen: int) -> np.ndarray:
    labels = label_tokens(lengths[:-1], seqlen, "document")
    test = len(lengths[:-1])
    return dense(seqlen, lambda q, k: k <= q and (labels[q] == labels[k] or labels[q] == test))


def prefix_lm_document(lengths: list[int], prefixes: list[int], seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(lengths, seqlen, padding)
    offsets = offsets_in_document(labels)

    def sees(query: int, key: int) -> bool:
        if labels[query] is None or labels[query] != labels[key]:
            return False
        in_prefix = labels[key] < len(prefixes) and offsets[key] < prefixes[labels[key]]
        return in_prefix or key <= query

    return dense(seqlen, sees)


def prefix_lm_causal(seqlen: int, prefix: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda q, k: q < length and k < length and (k < prefix or k <= q))


def qk_sparse(seqlen: int, dropped: list[tuple[int, int]], length: int) -> np.ndarray:
    def together(query: int, key: int) -> bool:
        return any(offset <= query < offset + count and offset <= key < offset + count for offset, count in dropped)

    return dense(seqlen, lambda q, k: k <= q < length and not together(q, k))


def hash_buckets(queries: list[int], keys: list[int], query_at: list[int], key_at: list[int]) -> np.ndarray:
    return dense(len(queries), lambda q, k: queries[q] == keys[k] and key_at[k] <= query_at[q])
