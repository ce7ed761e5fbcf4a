"""Lengths of many key tiles, for which several threads accumulate dquery in a fixed order."""

from __future__ import annotations

import numpy as np
import pytest
from support import mask_samples
from support.call import run
from support.compare import Expectation, assert_same_bits
from support.library import Kernels
from support.problem import Problem


@pytest.mark.parametrize(
    ("kind", "seqlen_q", "seqlen_k"),
    [
        ("full", 70, 3200),
        ("causal", 300, 2100),
        ("causal_document", 2100, 2100),
        ("document", 2048, 2049),
        ("sliding_window", 2300, 2300),
        ("random_4", 200, 2500),
        ("stripes", 500, 4100),
        ("wide_holes_2_causal", 600, 2200),
        ("dead_columns", 100, 3000),
        ("nothing_visible", 130, 2100),
    ],
)
def test_many_key_tiles(kernels: Kernels, isa: str, kind: str, seqlen_q: int, seqlen_k: int) -> None:
    problem = Problem(seqlen_q=seqlen_q, seqlen_k=seqlen_k, heads_q=1, heads_kv=1, head_dim=8, head_dim_v=8, dlse=True)
    rng = np.random.default_rng(6)
    problem.startend, problem.causal = mask_samples.sample_mask(kind, rng, 1, 1, seqlen_q, seqlen_k)
    result = run(kernels, problem)
    Expectation(problem).check(result, isa)
    for workers in (3, 16):
        assert_same_bits(result, run(kernels, problem, workers=workers), f"with {workers} threads")
