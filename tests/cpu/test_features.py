"""Pairwise cover of features, masks and ragged sizes, forward and backward, under the error rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import mask_samples
from support.call import run
from support.cases import problem_of
from support.compare import Expectation, assert_same_bits
from support.library import Kernels
from support.pairwise import pairwise
from support.problem import Problem

# Sizes around the tiles of the kernels (panels of 16, tiles of 64 x 128) and across several of them; few queries, also
# with the last chunk of 512 keys not full; few keys.
SIZES = [
    (1, 1),
    (2, 15),
    (15, 2),
    (16, 17),
    (63, 64),
    (64, 128),
    (65, 127),
    (127, 65),
    (128, 129),
    (129, 63),
    (1, 300),
    (300, 1),
    (3, 700),
    (8, 385),
    (150, 8),
    (129, 3),
    (200, 200),
    (257, 130),
    (130, 257),
    (320, 385),
]
CHOICES = {
    "kind": mask_samples.kinds(),
    "size": SIZES,
    "dtype": ["float32", "bfloat16", "float16"],
    "heads": [(1, 1, 1), (2, 2, 1), (4, 2, 1), (4, 2, 2), (4, 2, 4), (3, 1, 3), (6, 2, 2), (4, 1, 2)],
    "dims": [(16, 16), (1, 1), (7, 7), (40, 40), (64, 64), (80, 80), (96, 96), (128, 128), (129, 129), (256, 256)]
    + [(192, 128), (64, 128), (5, 33)],
    "window": [(-1, -1), (-1, -1), (0, 0), (30, -1), (-1, 20), (100, 3)],
    "causal_offset": [None, None, 0, 40, -25],
    "blocks": [False, True],
    "sink": [False, True],
    "dropout": [0.0, 0.0, 0.2, 0.7],
    "dlse": [False, True],
    "layout": ["packed", "heads_first", "padded", "sequence_first"],
    "batch": [(1, True), (2, True), (2, False), (3, True)],
    "magnitude": [1.0, 1.0, 3.0],
    "workers": [1, 3],
}
CASES = pairwise(CHOICES)


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_case(kernels: Kernels, case: dict) -> None:
    problem = problem_of(case)
    expectation = Expectation(problem, draws=4)
    for isa in kernels.isas():
        kernels.set_isa(isa)
        try:
            expectation.check(run(kernels, problem, case["workers"]), f"kind={case['kind']} isa={isa}")
        finally:
            kernels.set_isa("")


@pytest.mark.parametrize("place", [(16, 0), (0, 48), (4096, 208)])
def test_dropout_of_a_part_of_a_sequence(kernels: Kernels, isa: str, place: tuple[int, int]) -> None:
    problem = Problem(seqlen_q=70, seqlen_k=150, causal=True, dropout=0.4, dropout_place=place)
    Expectation(problem).check(run(kernels, problem), f"isa={isa}")


def test_every_instruction_set_of_the_sources_is_offered(kernels: Kernels, isa: str) -> None:
    """test_case runs the instruction sets that the build offers, so none may be missing."""
    assert kernels.isa() == isa


@pytest.mark.parametrize("number", range(0, len(CASES), 10))
def test_width_of_the_products_does_not_change_bits(kernels: Kernels, number: int) -> None:
    """Products of 512 and of 256 bits add in the same order."""
    if "avx512" not in kernels.isas():
        pytest.skip("this CPU has no AVX-512")
    problem = problem_of(CASES[number])
    results = []
    try:
        for isa in ("avx512", "avx512_fma256"):
            kernels.set_isa(isa)
            results.append(run(kernels, problem))
    finally:
        kernels.set_isa("")
    assert_same_bits(*results, "with products of 256 bits")


def test_wide_products_where_the_processor_has_wide_units(kernels: Kernels) -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if "avx512" not in kernels.isas():
        pytest.skip("this CPU has no AVX-512")
    assert kernels.isa() == ("avx512" if "avx512_fp16" in flags else "avx512_fma256")
