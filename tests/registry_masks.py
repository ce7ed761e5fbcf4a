"""Every mask of the registry at any length, with parameters scaled from those of public tests.

The masks of the paper have the parameters of PaddlePaddle's `test/test_flashmask_ci`, which are for 8192 tokens.
"""

from __future__ import annotations

import numpy as np

from paddle_flashmask import masks
from paddle_flashmask.masks.registry import MASKS

NAMES = [entry.name for entry in MASKS]

_FULL_LENGTH = 8192


def scaled(value: int, seqlen: int) -> int:
    return max(1, value * seqlen // _FULL_LENGTH)


def scaled_documents(seqlen: int) -> list[int]:
    return [scaled(length, seqlen) for length in (2538, 1742, 3213)]


def build_mask(name: str, seqlen: int, batch: int, heads: int) -> masks.ColumnMask:
    """Build the mask `name`. Those that differ by batch row or head have `batch` rows and `heads` heads."""
    documents = scaled_documents(seqlen)
    rng = np.random.default_rng(seqlen)
    query_buckets, key_buckets = (np.sort(rng.integers(0, 5, seqlen)) for _ in range(2))
    build = {
        "full": lambda: masks.full(seqlen),
        "causal": lambda: masks.causal(seqlen, length=seqlen - seqlen // 8),
        "sliding_window": lambda: masks.sliding_window(seqlen, scaled(1024, seqlen)),
        "causal_document": lambda: masks.causal_document(documents, seqlen),
        "document": lambda: masks.document(documents, seqlen, padding="document"),
        "share_question": lambda: masks.share_question([documents], seqlen),
        "global_sliding_window": lambda: masks.global_sliding_window(seqlen, scaled(16, seqlen), scaled(512, seqlen)),
        "causal_blockwise": lambda: masks.causal_blockwise(documents, seqlen),
        "prefix_lm_document": lambda: masks.prefix_lm_document(
            documents, [length // 3 for length in documents], seqlen, padding="document"
        ),
        "prefix_lm_causal": lambda: masks.prefix_lm_causal(seqlen, scaled(1024, seqlen)),
        "qk_sparse": lambda: masks.qk_sparse(
            seqlen,
            [(scaled(1024, seqlen), scaled(538, seqlen)), (scaled(2358, seqlen), scaled(1700, seqlen))],
        ),
        "hash_sparse": lambda: masks.hash_sparse(*masks.hash_bucket_queries(query_buckets, key_buckets)),
        "prefix_tree": lambda: masks.prefix_tree(
            [-1, 0, 1, 1, 0, 4, 4, 4, -1],
            [scaled(length, seqlen) for length in (1024, 800, 700, 600, 512, 500, 0, 900, 2000)],
            seqlen,
        ),
        "sink_window_document": lambda: masks.sink_window_document(
            documents, scaled(64, seqlen), scaled(1024, seqlen), seqlen, padding="document"
        ),
        "chunked_document": lambda: masks.chunked_document(documents, scaled(1024, seqlen), seqlen),
        "image_spans": lambda: masks.image_spans(
            documents,
            [(0, documents[0] // 2), (sum(documents[:2]) - documents[1] // 3, documents[1] // 3)],
            scaled(1024, seqlen),
            seqlen,
        ),
        "block_diffusion": lambda: masks.block_diffusion(
            [length // 2 for length in documents], scaled(256, seqlen), seqlen
        ),
        "multi_token_prediction": lambda: masks.multi_token_prediction(documents, 2, scaled(1024, seqlen), seqlen),
        "draft_training": lambda: masks.draft_training(documents, 2, seqlen),
        "random_eviction": lambda: masks.random_eviction(seqlen, scaled(4096, seqlen), batch=batch, heads=heads),
    }
    return build[name]()
