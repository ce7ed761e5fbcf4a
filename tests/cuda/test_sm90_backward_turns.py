"""Deterministic dquery of the sm90 backward, to whose sums key tiles add in order: bits and values in several orders of
execution, on masks with long and short chains of key tiles, and the marks left in the workspace."""

from __future__ import annotations

import numpy as np
import pytest
from support import mask_samples
from support.compare import Expectation, assert_same_bits
from support.emulated import EmulatedKernels
from support.problem import Problem
from test_sm90_backward import DTYPES, HEAD_DIMS, SM90, TILES, WatchedCall, workspace_and_gradients

SEEDS = range(4)


def seen_from_both_ends(rows: int, length: int) -> np.ndarray:
    """In every third block of 128 keys, half see rows [0, 64) and half the last 64. Their bounds do not rule out the
    rows between, their columns do."""
    startend = np.zeros((1, 1, length, 4), dtype=np.int32)
    keys = np.arange(length)
    apart = keys // 128 % 3 == 1
    startend[0, 0, apart & (keys % 2 == 0), :2] = 64, rows
    startend[0, 0, apart & (keys % 2 == 1), :2] = 0, rows - 64
    return startend


def random_masks(batch: int, heads: int, rows: int, length: int) -> np.ndarray:
    return mask_samples.sample_mask("random_2", np.random.default_rng(8), batch, heads, rows, length)[0]


MASKS = {
    "every query tile sees eleven key tiles": {"seqlen_q": 150, "seqlen_k": 1300, "causal": False},
    "causal": {"seqlen_q": 600, "seqlen_k": 600},
    "few key tiles per query tile": {"seqlen_q": 600, "seqlen_k": 600, "window": (70, 0), "heads_kv": 1},
    "a mask per head": {
        "batch": 2,
        "seqlen_q": 200,
        "seqlen_k": 500,
        "heads_q": 4,
        "heads_mask": 4,
        "causal": False,
        "startend": random_masks(2, 4, 200, 500),
    },
    "tiles that only columns rule out": {
        "seqlen_q": 400,
        "seqlen_k": 700,
        "causal": False,
        "startend": seen_from_both_ends(400, 700),
    },
}


def problem_of(head_dim: int, dtype: str = "bfloat16", **changes) -> Problem:
    sizes = {"batch": 1, "heads_q": 2, "heads_kv": 2, "head_dim": head_dim, "head_dim_v": TILES[head_dim].head_dim_v}
    return Problem(**{**sizes, "dtype": dtype, "causal": True, **changes})


def padded_rows(problem: Problem) -> int:
    tile_q = TILES[problem.head_dim].tile_q
    return -(-problem.seqlen_q // tile_q) * tile_q


def runs_of(emulated: EmulatedKernels, problem: Problem, deterministic: bool, multiprocessors: int) -> list[dict]:
    """Gradients, and the float32 sums of dquery, since rounding hides most effects of another order."""
    call = WatchedCall(emulated, problem, deterministic, multiprocessors)
    emulated.configure(0, compute_capability=SM90)
    call.forward()
    sums = problem.batch * problem.heads_q * padded_rows(problem) * problem.head_dim
    runs = []
    for seed in SEEDS:
        emulated.configure(seed, compute_capability=SM90)
        runs.append({**call.backward(), "sums": call.workspace[-sums:]})
    return runs


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("mask", MASKS)
def test_same_bits_in_every_order_of_execution(emulated: EmulatedKernels, mask: str, head_dim: int) -> None:
    problem = problem_of(head_dim, DTYPES[head_dim % 3 % 2], **MASKS[mask])
    expectation = Expectation(problem)
    for multiprocessors in (1, 100):  # 100 splits the query heads of a group over blocks
        runs = runs_of(emulated, problem, True, multiprocessors)
        for seed, run in enumerate(runs):
            assert_same_bits(runs[0], run, f"between seeds 0 and {seed}")
        gradients = {name: result for name, result in runs[0].items() if name != "sums"}
        expectation.check(gradients, f"{mask}, {multiprocessors} multiprocessors")


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_without_turns_the_bits_depend_on_the_order(emulated: EmulatedKernels, head_dim: int) -> None:
    """Otherwise the test above would prove nothing."""
    problem = problem_of(head_dim, **MASKS["every query tile sees eleven key tiles"])
    first, *others = (run["sums"] for run in runs_of(emulated, problem, False, 1))
    assert all((first != other).any() for other in others)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("mask", ["causal", "few key tiles per query tile", "tiles that only columns rule out"])
def test_the_last_mark_is_that_of_the_last_key_tile(emulated: EmulatedKernels, mask: str, head_dim: int) -> None:
    """There is a mark per 64 rows of a head; a query tile uses its first one. It ends as 1 + the largest rank of the
    key tiles whose bounds do not rule out the tile, or unwritten if there is no such key tile."""
    problem = problem_of(head_dim, **MASKS[mask])
    call = WatchedCall(emulated, problem, deterministic=True)
    workspace_and_gradients(emulated, call, compute_capability=SM90)
    tile_q, tile_k = TILES[head_dim].tile_q, TILES[head_dim].tile_k
    rows = problem.batch * problem.heads_q * padded_rows(problem)
    sums, marks = rows * head_dim, rows // 64
    first = len(call.workspace) - sums - -(-marks // 64) * 64
    found = call.workspace[first : first + marks].astype(np.int32).reshape(problem.heads_q, -1)[:, :: tile_q // 64]
    for head in range(problem.heads_q):
        np.testing.assert_array_equal(found[head], last_marks(problem, head, tile_q, tile_k))


def last_marks(problem: Problem, head: int, tile_q: int, tile_k: int) -> np.ndarray:
    """Expected marks, by the first and the last row that any key of a tile sees: these bounds rank and rule out the key
    tiles of the masks here."""
    visible = problem.visible[0, head]
    rows = np.arange(problem.seqlen_q)[:, None]
    starts = np.arange(0, problem.seqlen_k, tile_k)
    first = np.minimum.reduceat(np.where(visible, rows, problem.seqlen_q).min(axis=0), starts)
    end = np.maximum.reduceat(np.where(visible, rows + 1, 0).max(axis=0), starts)
    tiles = np.arange(0, problem.seqlen_q, tile_q)[:, None]
    takes_part = (tiles < end) & (tiles + tile_q > first)
    work = takes_part.sum(axis=0)
    classes = (work.max() - work) * 64 // (work.max() + 1)
    rank = np.argsort(np.argsort(classes, kind="stable"))
    return np.where(takes_part, rank + 1, 0).max(axis=1)
