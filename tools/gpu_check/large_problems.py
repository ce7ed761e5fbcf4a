"""Problems at sizes of real use: `middle` up to 1K, `long` up to 33K, `huge` beyond 2^31 elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from support import mask_samples
from support.cases import problem_of
from support.problem import Problem

# Dropout occurs up to 1K only, because its mask is made by NumPy.
MIDDLE: dict[str, list[Any]] = {
    "kind": mask_samples.kinds(),
    "size": [(1024, 1024), (1000, 1023), (513, 1024)],
    "dims": [(64, 64), (128, 128), (256, 256), (192, 128)],
    "heads": [(4, 2, 1), (8, 1, 2), (4, 4, 4)],
    "dtype": ["bfloat16", "float16"],
    "features": ["none", "dropout", "sink and dlse", "block_mask"],
    "deterministic": [False, True],
    "layout": ["packed", "heads_first"],
}
LONG = [
    # kind, Sq, Sk, head_dim, dtype, Hq, Hkv
    ("causal_document", 4096, 4096, 128, "bfloat16", 4, 2),
    ("random_4", 4096, 4000, 64, "float16", 2, 2),
    ("full", 4096, 4096, 256, "bfloat16", 2, 1),
    ("random_eviction", 4100, 4100, 128, "bfloat16", 2, 2),
    ("sliding_window", 16384, 16384, 128, "bfloat16", 2, 1),
    ("causal", 16384, 16384, 64, "bfloat16", 1, 1),
    ("global_sliding_window", 16385, 16385, 128, "float16", 1, 1),
    ("document", 20000, 33000, 128, "bfloat16", 1, 1),
]
REHEARSED_MIDDLE = {
    "kind": ["causal_document", "random_4"],
    "size": [(70, 90)],
    "dims": [(64, 64)],
    "features": MIDDLE["features"],
}
REHEARSED_LONG = [("causal_document", 300, 300, 64, "bfloat16", 4, 2), ("document", 200, 330, 64, "float16", 1, 1)]
TWO_TO_31 = 1 << 31


def middle_problem(choice: dict[str, Any]) -> tuple[Problem, bool]:
    row = {name: options[0] for name, options in MIDDLE.items()} | choice
    feature = row["features"]
    problem = problem_of(
        row
        | {
            "batch": 1,
            "blocks": feature == "block_mask",
            "dropout": 0.1 if feature == "dropout" else 0.0,
            "sink": feature == "sink and dlse",
            "dlse": feature == "sink and dlse",
        }
    )
    return problem, row["deterministic"]


def long_problem(
    kind: str, seqlen_q: int, seqlen_k: int, head_dim: int, dtype: str, heads_q: int, heads_kv: int
) -> Problem:
    startend, causal = mask_samples.sample_mask(kind, np.random.default_rng(seqlen_q), 1, 1, seqlen_q, seqlen_k)
    return Problem(
        seqlen_q=seqlen_q,
        seqlen_k=seqlen_k,
        heads_q=heads_q,
        heads_kv=heads_kv,
        head_dim=head_dim,
        head_dim_v=head_dim,
        dtype=dtype,
        causal=causal,
        startend=startend,
        dlse=True,
    )


def huge_problem(tiny: bool) -> Problem:
    """query and out of 2^31 + 2^27 elements each. A narrow window keeps the number of visible pairs small."""
    seqlen, heads, heads_kv = (256, 2, 1) if tiny else (1 << 17, 136, 68)  # fewer key heads fit a GPU of 80 GB
    window = (100, 0)
    problem = Problem(
        seqlen_q=seqlen,
        seqlen_k=seqlen,
        heads_q=heads,
        heads_kv=heads_kv,
        head_dim=128,
        head_dim_v=128,
        dtype="bfloat16",
        causal=True,
        window=window,
    )
    assert tiny or seqlen * heads * problem.head_dim > TWO_TO_31
    return problem
