"""Every mask of the registry on the sm80 and sm90 kernels in the emulator, forward and backward, against the error
rule."""

from __future__ import annotations

import pytest
from registry_masks import NAMES, build_mask
from support.emulated import EmulatedCall, EmulatedKernels
from support.problem import Problem
from test_cuda_attention import expectation_of

SEQLEN = 257  # above the tile sizes, and no multiple of them
HEAD_DIM = 64


@pytest.mark.parametrize("name", NAMES)
def test_every_mask(emulated: EmulatedKernels, name: str) -> None:
    mask = build_mask(name, SEQLEN, batch=1, heads=1)
    problem = Problem(
        seqlen_q=mask.seqlen_q,
        seqlen_k=mask.seqlen_k,
        head_dim=HEAD_DIM,
        head_dim_v=HEAD_DIM,
        dtype="bfloat16",
        causal=mask.causal,
        startend=mask.startend_row_indices,
    )
    expectation = expectation_of(problem)
    for compute_capability in (80, 90):
        call = EmulatedCall(emulated, problem)
        emulated.configure(1, compute_capability)
        expectation.check({**call.forward(), **call.backward()}, f"{name} on {compute_capability}")
