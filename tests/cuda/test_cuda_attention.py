"""CUDA kernels in the emulator: a pairwise cover of features, masks, ragged sizes and instantiations against the error
rule, in two orders of execution each."""

from __future__ import annotations

import itertools

import pytest
from support import mask_samples
from support.cases import problem_of
from support.compare import Expectation
from support.emulated import SHARED_LARGE, SHARED_MEDIUM, SHARED_SMALL, EmulatedCall, EmulatedKernels
from support.pairwise import pairwise
from support.problem import Problem

from tools import kernel_tables

# Below, at and above the tile sizes of the kernels (64 or 128 queries, 32 to 128 keys).
SIZES = [(1, 1), (2, 15), (63, 64), (65, 127), (1, 200), (200, 1), (129, 65), (130, 193), (257, 300), (0, 5), (7, 0)]
DTYPES = ("bfloat16", "float16")
ROW_DIMS = sorted({(tile.head_dim, tile.head_dim_v) for tile in kernel_tables.table("sm80", "Forward")})
PADDED_DIMS = [(16, 16), (40, 64), (88, 72), (64, 128), (152, 256)]
CHOICES = {
    "kind": mask_samples.kinds(),
    "size": SIZES,
    "heads": [(1, 1, 1), (2, 2, 1), (4, 2, 2), (2, 1, 2), (6, 1, 3)],
    "dims": [*ROW_DIMS, *PADDED_DIMS],
    "window": [(-1, -1), (-1, -1), (0, 0), (30, -1), (-1, 20)],
    "causal_offset": [None, None, 40, -25],
    "blocks": [False, True],
    "sink": [False, True],
    "dropout": [0.0, 0.0, 0.2],
    "dlse": [False, True],
    "layout": ["packed", "heads_first", "sequence_first"],
    "batch": [1, 2],
    "softmax_scale": [None, None, 0.7, -0.3],
    "multiprocessors": [1, 4, 100],
    # A single choice, so that each combination meets every head dim: together they select the instantiation.
    "instantiation": list(itertools.product(DTYPES, (SHARED_SMALL, SHARED_MEDIUM, SHARED_LARGE), (False, True))),
}


def cases() -> list[dict]:
    names = ("dtype", "shared_limit", "deterministic")
    return [{**case, **dict(zip(names, case["instantiation"], strict=True))} for case in pairwise(CHOICES)]


CASES = cases()
SEEDS = (1, 2)


def expectation_of(problem: Problem) -> Expectation:
    """Error rule whose plain error is the largest of several draws: small results have few roundings."""
    pairs = problem.seqlen_q * problem.seqlen_k
    return Expectation(problem, draws=24 if pairs < 1000 else 6)


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_case(emulated: EmulatedKernels, case: dict) -> None:
    problem = problem_of(case)
    expectation = expectation_of(problem)
    call = EmulatedCall(emulated, problem, case["deterministic"], case["multiprocessors"])
    for seed in SEEDS:
        emulated.configure(seed, shared_limit=case["shared_limit"])
        expectation.check({**call.forward(), **call.backward()}, f"kind={case['kind']} seed={seed}")
