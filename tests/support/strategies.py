"""Hypothesis strategies for small problems, over everything that the operator accepts."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from . import mask_samples
from .buffers import LAYOUTS
from .problem import Problem

_LENGTHS = st.one_of(
    st.integers(1, 20), st.integers(1, 300), st.sampled_from([16, 63, 64, 65, 127, 128, 129, 192, 256])
)
_DIMS = st.one_of(st.integers(1, 40), st.sampled_from([64, 128]))


@st.composite
def problems(draw: st.DrawFn, kinds: tuple[str, ...] | None = None) -> Problem:
    heads_kv = draw(st.integers(1, 3))
    heads_q = heads_kv * draw(st.integers(1, 3))
    heads_mask = draw(st.sampled_from([h for h in range(1, heads_q + 1) if heads_q % h == 0]))
    batch = draw(st.integers(1, 2))
    seqlen_q = draw(_LENGTHS)
    seqlen_k = draw(st.one_of(st.just(seqlen_q), _LENGTHS))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(kinds or mask_samples.kinds()))
    startend, causal = mask_samples.sample_mask(kind, rng, batch, heads_mask, seqlen_q, seqlen_k, draw(st.booleans()))
    blocks = None
    if draw(st.booleans()):
        shape = (batch, heads_mask, -(-seqlen_q // 128), -(-seqlen_k // 128))
        blocks = (rng.random(shape) < 0.7).astype(np.int32)
    head_dim = draw(_DIMS)
    side = st.one_of(st.just(-1), st.integers(0, 300))
    return Problem(
        batch=batch,
        seqlen_q=seqlen_q,
        seqlen_k=seqlen_k,
        heads_q=heads_q,
        heads_kv=heads_kv,
        heads_mask=heads_mask,
        head_dim=head_dim,
        head_dim_v=draw(st.one_of(st.just(head_dim), _DIMS)),
        dtype=draw(st.sampled_from(["float32", "bfloat16", "float16"])),
        causal=causal,
        causal_offset=draw(st.one_of(st.none(), st.integers(-320, 320))),
        window=draw(st.tuples(side, side)),
        startend=startend,
        block_mask=blocks,
        softmax_scale=draw(st.one_of(st.none(), st.sampled_from([0.0, 0.05, -0.1, 1.0]))),
        dropout=draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 0.99])),
        seed=draw(st.integers(0, 2**64 - 1)),
        offset=draw(st.integers(0, 2**64 - 1)),
        sink=draw(st.booleans()),
        dlse=draw(st.booleans()),
        layout=draw(st.sampled_from(LAYOUTS)),
        data_seed=seed,
    )
