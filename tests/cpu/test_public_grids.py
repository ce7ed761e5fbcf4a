"""Masks and shapes of the public FlashMask test suites, scaled down to sizes that a CPU checks in seconds.

Masks: the thirteen builders with the parameters of PaddlePaddle's `test/test_flashmask_ci`, which are for 8192 tokens,
documents of `test/xpu/test_flashmask_attention_op_xpu.py`, and lengths around tile edges.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.call import run
from support.compare import Expectation
from support.library import Kernels
from support.pairwise import pairwise
from support.problem import Problem

from paddle_flashmask import masks

_FULL_LENGTH = 8192


def scaled(value: int, seqlen: int) -> int:
    return max(1, value * seqlen // _FULL_LENGTH)


def scaled_documents(seqlen: int) -> list[int]:
    return [scaled(length, seqlen) for length in (2538, 1742, 3213)]


def build_mask(name: str, seqlen: int, batch: int, heads: int) -> masks.ColumnMask:
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
        "random_eviction": lambda: masks.random_eviction(seqlen, scaled(4096, seqlen), batch=batch, heads=heads),
    }
    return build[name]()


def check(kernels: Kernels, mask: masks.ColumnMask, **shape) -> None:
    batch, heads_mask = shape["batch"], shape["heads_mask"]
    columns = mask.startend_row_indices
    problem = Problem(
        startend=np.ascontiguousarray(np.broadcast_to(columns, (batch, heads_mask, *columns.shape[2:]))),
        causal=mask.causal,
        seqlen_q=mask.seqlen_q,
        seqlen_k=columns.shape[2],
        **shape,
    )
    expectation = Expectation(problem)
    for isa in kernels.isas():
        kernels.set_isa(isa)
        try:
            expectation.check(run(kernels, problem, workers=2), isa)
        finally:
            kernels.set_isa("")


CASES = pairwise(
    {
        "name": [name for name in masks.__all__ if name[0].islower() and name != "hash_bucket_queries"],
        "seqlen": [127, 128, 255, 384, 512],
        "heads": [(2, 1, 1), (4, 1, 1), (2, 2, 2), (4, 2, 2)],
        "dim": [(64, 64), (80, 80), (128, 128), (192, 128), (256, 256)],
        "dtype": ["bfloat16", "float16", "float32"],
        "batch": [1, 2],
    }
)


@pytest.mark.parametrize("case", CASES, ids=[f"{c['name']}-{c['seqlen']}-{c['dtype']}" for c in CASES])
def test_paper_masks(kernels: Kernels, case: dict) -> None:
    heads_q, heads_kv, heads_mask = case["heads"]
    mask = build_mask(case["name"], case["seqlen"], case["batch"], heads_mask)
    check(
        kernels,
        mask,
        batch=case["batch"],
        heads_q=heads_q,
        heads_kv=heads_kv,
        heads_mask=heads_mask,
        head_dim=case["dim"][0],
        head_dim_v=case["dim"][1],
        dtype=case["dtype"],
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["causal_document", "share_question", "causal_blockwise"])
def test_three_documents_in_128_tokens(kernels: Kernels, name: str, dtype: str) -> None:
    lengths = [31, 28, 69]
    mask = masks.share_question([lengths]) if name == "share_question" else getattr(masks, name)(lengths)
    check(kernels, mask, batch=1, heads_q=2, heads_kv=2, heads_mask=1, head_dim=32, head_dim_v=32, dtype=dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("seqlen_q", "seqlen_k"), [(1, 127), (1, 512), (127, 511), (113, 203), (256, 512), (512, 256)])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_lengths_that_differ(kernels: Kernels, dtype: str, seqlen_q: int, seqlen_k: int, n: int) -> None:
    """Short queries against a long cache, with bottom-right causality for the causal forms."""
    rng = np.random.default_rng(seqlen_k + n)
    start = rng.integers(0, seqlen_q + 1, (2, 2, seqlen_k, 2))
    length = rng.integers(0, seqlen_q // 2 + 2, (2, 2, seqlen_k, 2))
    columns = np.stack([start, np.minimum(start + length, seqlen_q)], axis=-1).reshape(2, 2, seqlen_k, 4)
    problem = Problem(
        batch=2,
        seqlen_q=seqlen_q,
        seqlen_k=seqlen_k,
        heads_q=4,
        heads_kv=2,
        heads_mask=2,
        head_dim=64,
        head_dim_v=64,
        dtype=dtype,
        causal=n < 4,
        startend=np.ascontiguousarray(columns[..., :n].astype(np.int32)),
    )
    Expectation(problem).check(run(kernels, problem))
