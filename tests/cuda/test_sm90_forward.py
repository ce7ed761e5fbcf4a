"""sm90 forward in the emulator: a pairwise cover of every mask and feature that it supports, against the error rule and
bit for bit in two orders of execution. Unsupported calls run on the sm80 kernels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import mask_samples
from support.cases import problem_of
from support.compare import Expectation, assert_same_bits
from support.emulated import SHARED_LARGE, SHARED_MEDIUM, EmulatedCall, EmulatedKernels
from support.pairwise import pairwise
from support.problem import Problem
from test_cuda_attention import expectation_of

from tools import kernel_tables

SM90 = 90
TILES = {(tile.head_dim, tile.head_dim_v): tile for tile in kernel_tables.sm90_table("Forward")}
HEAD_DIMS = list(TILES)
# Below, at and above the tile sizes (128 or 192 queries in slices of 64, 64 to 128 keys).
SIZES = [(1, 1), (65, 127), (2, 300), (128, 128), (193, 97), (257, 300), (400, 70)]
CHOICES = {
    "kind": mask_samples.kinds(),
    "size": SIZES,
    "instantiation": list(itertools.product(HEAD_DIMS, ("bfloat16", "float16"))),
    "heads": [(1, 1, 1), (2, 1, 2), (3, 3, 1)],
    "window": [(-1, -1), (-1, -1), (0, 0), (90, -1), (-1, 20)],
    "causal_offset": [None, None, 40, -25],
    "sink": [False, True],
    "layout": ["packed", "heads_first", "sequence_first"],
    "batch": [1, 2],
    "softmax_scale": [None, None, 0.7],
    "multiprocessors": [1, 2, 100],
}
SEEDS = (1, 2)
SLICE_ROWS = 64  # of a warpgroup
DEPTH = 16  # of one product


def cases() -> list[dict]:
    names = ("dims", "dtype")
    return [
        {**case, **dict(zip(names, case["instantiation"], strict=True)), "blocks": False} for case in pairwise(CHOICES)
    ]


CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_case(emulated: EmulatedKernels, case: dict) -> None:
    problem = problem_of(case)
    expectation = expectation_of(problem)
    call = EmulatedCall(emulated, problem, multiprocessors=case["multiprocessors"])
    runs = []
    for seed in SEEDS:
        emulated.configure(seed, compute_capability=SM90)
        runs.append(call.forward())
        expectation.check(runs[-1], f"kind={case['kind']} seed={seed}")
    assert_same_bits(runs[0], runs[1], "between two orders of execution")


def plain_problem(**changes) -> Problem:
    sizes = {"batch": 2, "seqlen_q": 140, "seqlen_k": 150, "head_dim": 128, "head_dim_v": 128}
    return Problem(**{**sizes, "dtype": "bfloat16", "causal": True, **changes})


def workspace_and_results(emulated: EmulatedKernels, call: EmulatedCall, **device) -> tuple[int, dict]:
    emulated.configure(1, **device)
    return emulated.forward_workspace(call.params), call.forward()


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_these_kernels_run(emulated: EmulatedKernels, dims: tuple[int, int], dtype: str) -> None:
    """The size of the workspace tells them from the sm80 kernels."""
    call = EmulatedCall(emulated, plain_problem(head_dim=dims[0], head_dim_v=dims[1], dtype=dtype, seqlen_k=400))
    size, ours = workspace_and_results(emulated, call, compute_capability=SM90)
    other_size, theirs = workspace_and_results(emulated, call, compute_capability=80)
    assert size != other_size
    np.testing.assert_allclose(ours["out"], theirs["out"], atol=0.02)


UNSUPPORTED = {
    "dropout": {"dropout": 0.1},
    "block_mask": {"block_mask": np.ones((2, 1, 2, 2), dtype=np.int32)},
    "head_dim 96": {"head_dim": 96, "head_dim_v": 96},
    "head_dim 128 and 96": {"head_dim_v": 96},
    "negative scale": {"softmax_scale": -0.3},
    "scale of zero": {"softmax_scale": 0.0},
    "no keys": {"seqlen_k": 0},
    "no queries": {"seqlen_q": 0},
}


@pytest.mark.parametrize("changes", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_calls_run_on_sm80(emulated: EmulatedKernels, changes: dict) -> None:
    call = EmulatedCall(emulated, plain_problem(**changes))
    size, ours = workspace_and_results(emulated, call, compute_capability=SM90)
    expected_size, expected = workspace_and_results(emulated, call, compute_capability=80)
    assert size == expected_size
    assert_same_bits(ours, expected, "between sm90 and sm80")


@pytest.mark.parametrize(
    "device",
    [
        {"compute_capability": 100},
        {"compute_capability": 89},
        {"compute_capability": SM90, "shared_limit": SHARED_MEDIUM},
    ],
)
def test_other_devices_run_sm80(emulated: EmulatedKernels, device: dict) -> None:
    call = EmulatedCall(emulated, plain_problem())
    size, ours = workspace_and_results(emulated, call, **{"shared_limit": SHARED_LARGE, **device})
    expected_size, expected = workspace_and_results(emulated, call, compute_capability=80)
    assert size == expected_size
    assert_same_bits(ours, expected, "between this device and sm80")


def test_a_tensor_repeated_along_the_batch_runs_on_sm80(emulated: EmulatedKernels) -> None:
    """Tensor maps cannot express its stride of zero."""
    call = EmulatedCall(emulated, plain_problem())
    call.params.key.stride_batch = 0
    size, ours = workspace_and_results(emulated, call, compute_capability=SM90)
    expected_size, expected = workspace_and_results(emulated, call, compute_capability=80)
    assert size == expected_size
    assert_same_bits(ours, expected, "between sm90 and sm80")


@pytest.mark.parametrize("sink", [False, True])
def test_rows_and_tiles_that_see_nothing(emulated: EmulatedKernels, sink: bool) -> None:
    """Query tiles without a key tile, and rows without a key in tiles that have some."""
    problem = plain_problem(causal_offset=-200, seqlen_q=420, seqlen_k=300, sink=sink)
    call = EmulatedCall(emulated, problem)
    emulated.configure(1, compute_capability=SM90)
    results = call.forward()
    Expectation(problem).check(results)
    assert not results["out"][:, :200].any() and results["out"][:, 200:].any()


def seen_slices(visible: np.ndarray, tile_k: int) -> int:
    """Number of (slice of rows, key tile) combinations with a visible pair. visible: [heads, Sq, Sk]."""
    slices = np.add.reduceat(visible, np.arange(0, visible.shape[1], SLICE_ROWS), axis=1, dtype=int)
    return np.count_nonzero(np.add.reduceat(slices, np.arange(0, visible.shape[2], tile_k), axis=2))


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize("kind", ["full", "document", "share_question", "random_4"])
def test_a_warpgroup_skips_tiles_that_its_rows_do_not_see(
    emulated: EmulatedKernels, dims: tuple[int, int], kind: str
) -> None:
    """Counts products: two per tile that is live for a slice of 64 rows, none for tiles live for other slices only."""
    startend, causal = mask_samples.sample_mask(kind, np.random.default_rng(7), 1, 1, 460, 460)
    problem = plain_problem(
        batch=1, seqlen_q=460, seqlen_k=460, head_dim=dims[0], head_dim_v=dims[1], startend=startend, causal=causal
    )
    emulated.configure(1, compute_capability=SM90)
    before = emulated.warpgroup_products()
    results = EmulatedCall(emulated, problem, multiprocessors=2).forward()
    products = emulated.warpgroup_products() - before
    Expectation(problem).check(results)
    tile_k = TILES[dims].tile_k
    assert products == seen_slices(problem.visible[0], tile_k) * (dims[0] // DEPTH + tile_k // DEPTH)


def test_heads_in_groups_that_fit_the_cache(emulated: EmulatedKernels) -> None:
    """Keys and values of a head take 10 MB, so the three heads form a group of two and a group of one."""
    problem = plain_problem(batch=1, seqlen_k=20000, heads_q=3, heads_kv=3, window=(100, 30))
    call = EmulatedCall(emulated, problem, multiprocessors=2)
    _, ours = workspace_and_results(emulated, call, compute_capability=SM90)
    _, theirs = workspace_and_results(emulated, call, compute_capability=80)
    for name in ("out", "lse"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=0.02)
