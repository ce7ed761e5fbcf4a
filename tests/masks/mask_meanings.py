"""The meaning of each mask, pair by pair: plain loops over tokens and their labels, without columns.

A meaning has the name of its builder and takes the same arguments, which its decorator draws at random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Arguments = dict[str, Any]
MEANINGS: dict[str, tuple[Callable[..., np.ndarray], st.SearchStrategy[Arguments]]] = {}
"""By the builder's name: bool [Sq, Sk] of its arguments, and a strategy for the arguments."""


def meaning(arguments: st.SearchStrategy[Arguments]) -> Callable:
    """Register the meaning of the builder of the same name, with random arguments for both."""

    def register(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        MEANINGS[function.__name__] = function, arguments
        return function

    return register


@st.composite
def one_sequence(draw: st.DrawFn, **others: st.SearchStrategy) -> Arguments:
    """Draw seqlen, a length within it, and the other arguments."""
    seqlen = draw(st.integers(0, 24))
    return {"seqlen": seqlen, "length": draw(st.integers(0, seqlen)), **{k: draw(v) for k, v in others.items()}}


@st.composite
def padded(draw: st.DrawFn, name: str, items: st.SearchStrategy[list], tokens: Callable[[list], int]) -> Arguments:
    """Draw documents or groups as argument `name`, a seqlen that holds them, and a padding."""
    drawn = draw(items)
    seqlen = tokens(drawn) + draw(st.integers(0, 6))
    return {name: drawn, "seqlen": seqlen, "padding": draw(st.sampled_from(["hidden", "document"]))}


def with_prefixes(arguments: Arguments) -> st.SearchStrategy[Arguments]:
    """Add a prefix of each document."""
    prefixes = st.tuples(*(st.integers(0, length) for length in arguments["documents"]))
    return prefixes.map(lambda drawn: {**arguments, "prefixes": list(drawn)})


def with_prefix(arguments: Arguments) -> st.SearchStrategy[Arguments]:
    """Add a prefix within the length."""
    return st.integers(0, arguments["length"]).map(lambda prefix: {**arguments, "prefix": prefix})


def with_spans(arguments: Arguments) -> st.SearchStrategy[Arguments]:
    """Add spans of the sequence between random cuts."""
    cuts = st.lists(st.integers(0, arguments["length"]), max_size=8).map(sorted)
    return cuts.map(lambda at: {**arguments, "dropped": [(a, b - a) for a, b in zip(at[::2], at[1::2], strict=False)]})


def with_global_tokens(arguments: Arguments) -> st.SearchStrategy[Arguments]:
    """Add a number of global tokens within the sequence."""
    most = min(6, arguments["seqlen"])
    return st.integers(0, most).map(lambda count: {**arguments, "global_tokens": count})


def runs(pairs: list[tuple[int, int]]) -> Arguments:
    """Return first and end query of each key, clipped to the number of keys."""
    return {name: [min(pair[i], len(pairs)) for pair in pairs] for i, name in enumerate(("first_query", "end_query"))}


DOCUMENTS = padded("documents", st.lists(st.integers(0, 7), max_size=5), sum)
GROUPS = padded(
    "groups",
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), max_size=4),
    lambda groups: sum(map(sum, groups)),
)
SIDE = st.integers(0, 9)


def dense(seqlen_q: int, sees: Callable[[int, int], bool], seqlen_k: int | None = None) -> np.ndarray:
    """Return bool [Sq, Sk] from sees(query, key); square unless `seqlen_k` is given."""
    out = np.zeros((seqlen_q, seqlen_q if seqlen_k is None else seqlen_k), dtype=bool)
    for query in range(out.shape[0]):
        for key in range(out.shape[1]):
            out[query, key] = sees(query, key)
    return out


def label_tokens(lengths: list[int], seqlen: int, padding: str = "hidden") -> list[int | None]:
    """Return the document number of each token; None for hidden padding."""
    labels: list[int | None] = []
    for document, length in enumerate(lengths):
        labels += [document] * length
    rest = len(lengths) if padding == "document" else None
    return labels + [rest] * (seqlen - len(labels))


def offsets_in_document(labels: list[int | None]) -> list[int]:
    """Return the number of tokens of the same document before each token."""
    return [labels[:token].count(label) for token, label in enumerate(labels)]


@meaning(one_sequence())
def full(seqlen: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda query, key: query < length and key < length)


@meaning(one_sequence())
def causal(seqlen: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda query, key: key <= query < length)


@meaning(one_sequence(window=st.integers(1, 30)))
def sliding_window(seqlen: int, window: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda query, key: query < length and query - window < key <= query)


@meaning(DOCUMENTS)
def causal_document(documents: list[int], seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(documents, seqlen, padding)
    return dense(seqlen, lambda q, k: labels[q] is not None and labels[q] == labels[k] and k <= q)


@meaning(DOCUMENTS)
def document(documents: list[int], seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(documents, seqlen, padding)
    return dense(seqlen, lambda q, k: labels[q] is not None and labels[q] == labels[k])


@meaning(GROUPS)
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


@meaning(one_sequence(window=SIDE | st.tuples(SIDE, SIDE)).flatmap(with_global_tokens))
def global_sliding_window(seqlen: int, global_tokens: int, window: int | tuple[int, int], length: int) -> np.ndarray:
    left, right = window if isinstance(window, tuple) else (window, window)

    def sees(query: int, key: int) -> bool:
        near = query - left <= key <= query + right
        return query < length and key < length and (near or query < global_tokens or key < global_tokens)

    return dense(seqlen, sees)


@meaning(DOCUMENTS.map(lambda drawn: {"documents": drawn["documents"], "seqlen": drawn["seqlen"]}))
def causal_blockwise(documents: list[int], seqlen: int) -> np.ndarray:
    labels = label_tokens(documents[:-1], seqlen, "document")
    test = len(documents[:-1])
    return dense(seqlen, lambda q, k: k <= q and (labels[q] == labels[k] or labels[q] == test))


@meaning(DOCUMENTS.flatmap(with_prefixes))
def prefix_lm_document(documents: list[int], prefixes: list[int], seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(documents, seqlen, padding)
    offsets = offsets_in_document(labels)

    def sees(query: int, key: int) -> bool:
        if labels[query] is None or labels[query] != labels[key]:
            return False
        in_prefix = labels[key] < len(prefixes) and offsets[key] < prefixes[labels[key]]
        return in_prefix or key <= query

    return dense(seqlen, sees)


@meaning(one_sequence().flatmap(with_prefix))
def prefix_lm_causal(seqlen: int, prefix: int, length: int) -> np.ndarray:
    return dense(seqlen, lambda q, k: q < length and k < length and (k < prefix or k <= q))


@meaning(one_sequence().flatmap(with_spans))
def qk_sparse(seqlen: int, dropped: list[tuple[int, int]], length: int) -> np.ndarray:
    def together(query: int, key: int) -> bool:
        return any(offset <= query < offset + count and offset <= key < offset + count for offset, count in dropped)

    return dense(seqlen, lambda q, k: k <= q < length and not together(q, k))


@meaning(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=20).map(runs))
def hash_sparse(first_query: list[int], end_query: list[int]) -> np.ndarray:
    return dense(len(first_query), lambda q, k: first_query[k] <= q < end_query[k])


@meaning(st.fixed_dictionaries({"seqlen": st.integers(0, 20), "start": st.integers(1, 24), "seed": st.integers(0, 99)}))
def random_eviction(seqlen: int, start: int, seed: int) -> np.ndarray:
    """Simulate the cache as a list of keys; each row from `start` on replaces the key at a random place."""
    places = np.random.default_rng(seed).integers(0, start, size=max(0, seqlen - start))
    cache, sees = list(range(min(start, seqlen))), np.zeros((seqlen, seqlen), dtype=bool)
    for row in range(seqlen):
        if row >= start:
            cache[places[row - start]] = row
        sees[row, [key for key in cache if key <= row]] = True
    return sees


@st.composite
def trees(draw: st.DrawFn) -> Arguments:
    """Draw the nodes of a forest in depth-first order: each node leaves part of the path to the last one."""
    parents, path = [], []
    for node in range(draw(st.integers(0, 14))):
        path = path[: draw(st.integers(0, len(path)))]
        parents.append(path[-1] if path else -1)
        path.append(node)
    lengths = draw(st.lists(st.integers(0, 3), min_size=len(parents), max_size=len(parents)))
    seqlen = sum(lengths) + draw(st.integers(0, 4))
    return {
        "parents": parents,
        "lengths": lengths,
        "seqlen": seqlen,
        "padding": draw(st.sampled_from(["hidden", "document"])),
    }


@meaning(trees())
def prefix_tree(parents: list[int], lengths: list[int], seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(lengths, seqlen, padding)
    parent_of = [*parents, -1]

    def is_ancestor(node: int, below: int) -> bool:
        return node == below or (parent_of[below] != -1 and is_ancestor(node, parent_of[below]))

    return dense(seqlen, lambda q, k: labels[q] is not None and k <= q and is_ancestor(labels[k], labels[q]))


def with_sink(arguments: Arguments) -> st.SearchStrategy[Arguments]:
    """Add a number of leading tokens, and a window."""
    pairs = st.tuples(st.integers(0, 5), st.integers(1, 9))
    return pairs.map(lambda drawn: {**arguments, "sink": drawn[0], "window": drawn[1]})


@meaning(DOCUMENTS.flatmap(with_sink))
def sink_window_document(documents: list[int], sink: int, window: int, seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(documents, seqlen, padding)
    offsets = offsets_in_document(labels)

    def sees(query: int, key: int) -> bool:
        in_document = labels[query] is not None and labels[query] == labels[key] and key <= query
        return in_document and (offsets[key] < sink or query - key < window)

    return dense(seqlen, sees)


@meaning(DOCUMENTS.flatmap(lambda drawn: st.integers(1, 8).map(lambda chunk: {**drawn, "chunk": chunk})))
def chunked_document(documents: list[int], chunk: int, seqlen: int, padding: str) -> np.ndarray:
    labels = label_tokens(documents, seqlen, padding)
    chunks = [(label, offset // chunk) for label, offset in zip(labels, offsets_in_document(labels), strict=True)]
    return dense(seqlen, lambda q, k: labels[q] is not None and chunks[q] == chunks[k] and k <= q)


@st.composite
def with_images(draw: st.DrawFn, arguments: Arguments) -> Arguments:
    """Add spans between random cuts inside each document, and a window or none."""
    spans, start = [], 0
    for length in arguments["documents"]:
        cuts = sorted(draw(st.lists(st.integers(start, start + length), max_size=4)))
        spans += [(a, b - a) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
        start += length
    return {**arguments, "spans": spans, "window": draw(st.none() | st.integers(1, 9))}


@meaning(DOCUMENTS.flatmap(with_images))
def image_spans(
    documents: list[int], spans: list[tuple[int, int]], window: int | None, seqlen: int, padding: str
) -> np.ndarray:
    labels = label_tokens(documents, seqlen, padding)

    def sees(query: int, key: int) -> bool:
        if labels[query] is None or labels[query] != labels[key]:
            return False
        same_image = any(a <= query < a + length and a <= key < a + length for a, length in spans)
        return same_image or (key <= query and (window is None or query - key < window))

    return dense(seqlen, sees)


@st.composite
def twice(draw: st.DrawFn) -> Arguments:
    """Draw documents, a block size, and a seqlen that holds them twice."""
    documents = draw(st.lists(st.integers(0, 7), max_size=4))
    return {
        "documents": documents,
        "block": draw(st.integers(1, 9)),
        "seqlen": 2 * sum(documents) + draw(st.integers(0, 4)),
    }


@meaning(twice())
def block_diffusion(documents: list[int], block: int, seqlen: int) -> np.ndarray:
    """Label rows as (document, block, is clean) in the order of the layout, then apply the three rules."""
    rows: list[tuple[int, int, bool] | None] = []
    for document, length in enumerate(documents):
        for number, first in enumerate(range(0, length, block)):
            for is_clean in (False, True):
                rows += [(document, number, is_clean)] * min(block, length - first)
    rows += [None] * (seqlen - len(rows))

    def sees(query: int, key: int) -> bool:
        if rows[query] is None or rows[key] is None or rows[query][0] != rows[key][0]:
            return False
        (_, query_block, query_is_clean), (_, key_block, key_is_clean) = rows[query], rows[key]
        if not key_is_clean:
            return not query_is_clean and query_block == key_block
        return key_block <= query_block if query_is_clean else key_block < query_block

    return dense(seqlen, sees)


@meaning(
    DOCUMENTS.flatmap(
        lambda drawn: st.integers(0, 3).map(
            lambda step: {"documents": drawn["documents"], "seqlen": drawn["seqlen"], "step": step}
        )
    )
)
def draft_training(documents: list[int], step: int, seqlen: int) -> np.ndarray:
    labels = label_tokens(documents, seqlen)

    def sees(query: int, key: int) -> bool:
        key_step, place = divmod(key, seqlen)
        if labels[query] is None or labels[query] != labels[place]:
            return False
        return place <= query if key_step == 0 else place == query

    return dense(seqlen, sees, (step + 1) * seqlen)


def with_depth(arguments: Arguments) -> st.SearchStrategy[Arguments]:
    """Add a depth, and a window or none, in place of the padding."""
    pairs = st.tuples(st.integers(0, 9), st.none() | st.integers(1, 9))
    kept = {"documents": arguments["documents"], "seqlen": arguments["seqlen"]}
    return pairs.map(lambda drawn: {**kept, "depth": drawn[0], "window": drawn[1]})


@meaning(DOCUMENTS.flatmap(with_depth))
def multi_token_prediction(documents: list[int], depth: int, window: int | None, seqlen: int) -> np.ndarray:
    """A row is whole if the token `depth` places later is of the same document; only whole rows see and are seen."""
    labels = label_tokens(documents, seqlen)
    later = [*labels[depth:], *[None] * depth]
    whole = [label is not None and label == other for label, other in zip(labels, later, strict=False)]

    def sees(query: int, key: int) -> bool:
        near = window is None or query - key < window
        return whole[query] and whole[key] and labels[query] == labels[key] and key <= query and near

    return dense(seqlen, sees)


def hash_buckets(queries: list[int], keys: list[int], query_at: list[int], key_at: list[int]) -> np.ndarray:
    return dense(len(queries), lambda q, k: queries[q] == keys[k] and key_at[k] <= query_at[q])
