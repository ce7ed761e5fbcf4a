"""Problems from rows of choices. Equal rows give the same random mask and data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from . import mask_samples
from .problem import Problem

_BLOCK = 128
_FIELDS = {field.name for field in fields(Problem)}


def problem_of(case: Mapping[str, Any]) -> Problem:
    """Problem of one row.

    Args:
        case: `kind` of mask_samples; `size` (Sq, Sk); `heads` (Hq, Hkv, Hm); `dims` (D, Dv); `batch`, which is B, or
            B and whether the mask varies with batch and head; `blocks`, whether there is a block_mask; and any fields
            of Problem.
    """
    batch, varied = case["batch"] if isinstance(case["batch"], tuple) else (case["batch"], True)
    (seqlen_q, seqlen_k), (heads_q, heads_kv, heads_mask) = case["size"], case["heads"]
    seed = zlib.crc32(repr(sorted(case.items())).encode())
    rng = np.random.default_rng(seed)
    startend, causal = None, True
    if seqlen_q and seqlen_k:
        startend, causal = mask_samples.sample_mask(case["kind"], rng, batch, heads_mask, seqlen_q, seqlen_k, varied)
    blocks = None
    if case["blocks"]:
        shape = (batch, heads_mask, -(-seqlen_q // _BLOCK), -(-seqlen_k // _BLOCK))
        blocks = rng.choice(np.array([0, 1, 1, -3], dtype=np.int32), shape)
    others = {name: value for name, value in case.items() if name in _FIELDS and name != "batch"}
    return Problem(
        batch=batch,
        seqlen_q=seqlen_q,
        seqlen_k=seqlen_k,
        heads_q=heads_q,
        heads_kv=heads_kv,
        heads_mask=heads_mask,
        head_dim=case["dims"][0],
        head_dim_v=case["dims"][1],
        causal=causal,
        startend=startend,
        block_mask=blocks,
        seed=seed * 2**32 + 1,
        data_seed=seed,
        **others,
    )
