"""Masks and shapes of the public FlashMask test suites, scaled down to sizes that a CPU checks in seconds.

Masks: every builder, the documents of `test/xpu/test_flashmask_attention_op_xpu.py`, and lengths around tile edges.
"""

from __future__ import annotations

import numpy as np
import pytest
from registry_masks import NAMES, build_mask
from support.call import run
from support.compare import Expectation
from support.library import Kernels
from support.pairwise import pairwise
from support.problem import Problem

from paddle_flashmask import masks


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
        "name": NAMES,
        "seqlen": [127, 128, 255, 384, 512],
        "heads": [(2, 1, 1), (4, 1, 1), (2, 2, 2), (4, 2, 2)],
        "dim": [(64, 64), (80, 80), (128, 128), (192, 128), (256, 256)],
        "dtype": ["bfloat16", "float16", "float32"],
        "batch": [1, 2],
    }
)


@pytest.mark.parametrize("case", CASES, ids=[f"{c['name']}-{c['seqlen']}-{c['dtype']}" for c in CASES])
def test_every_mask(kernels: Kernels, case: dict) -> None:
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
