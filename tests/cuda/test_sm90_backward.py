"""sm90 backward in the emulator: a pairwise cover of every mask and feature that it supports, against the error rule in
two orders of execution; deterministic gradients bit for bit. Unsupported calls run on the sm80 kernels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import mask_samples
from support.cases import problem_of
from support.compare import Expectation, assert_same_bits
from support.dense import GRADIENTS
from support.emulated import SHARED_SMALL, EmulatedCall, EmulatedKernels
from support.pairwise import pairwise
from support.problem import Problem
from test_cuda_attention import expectation_of

from tools import kernel_tables

SM90 = 90
TILES = {(tile.head_dim, tile.head_dim_v): tile for tile in kernel_tables.sm90_table("Backward")}
HEAD_DIMS = sorted(TILES)
DTYPES = ("bfloat16", "float16")
# Below, at and above the tile sizes (64 or 128 queries, 64 or 128 keys).
SIZES = [(1, 1), (65, 127), (2, 300), (300, 2), (128, 128), (193, 97), (257, 300)]
CHOICES = {
    "kind": mask_samples.kinds(),
    "size": SIZES,
    # Head dims and determinism as a single choice: with the dtype they select the instantiation.
    "instantiation": list(itertools.product(HEAD_DIMS, (False, True))),
    "dtype": DTYPES,
    "heads": [(1, 1, 1), (2, 1, 2), (3, 3, 1), (4, 2, 2), (4, 1, 1)],
    "window": [(-1, -1), (-1, -1), (0, 0), (90, -1), (-1, 20)],
    "causal_offset": [None, None, 40, -25],
    "sink": [False, True],
    "dlse": [False, True],
    "layout": ["packed", "heads_first", "sequence_first"],
    "batch": [1, 2],
    "softmax_scale": [None, None, 0.7, -0.3],
    "multiprocessors": [1, 4, 100],  # 4 and 100 split the query heads of a group over blocks
    "gradients": [GRADIENTS, GRADIENTS, ("dquery",), ("dkey",), ("dvalue",), ("dquery", "dvalue"), ("dsink",)],
}
SEEDS = (1, 2)


def cases() -> list[dict]:
    rows = []
    for case in pairwise(CHOICES):
        dims, deterministic = case["instantiation"]
        rows.append({**case, "dims": dims, "deterministic": deterministic})
    return [{**row, "blocks": False} for row in rows]


CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_case(emulated: EmulatedKernels, case: dict) -> None:
    problem = problem_of(case)
    expectation = expectation_of(problem)
    call = EmulatedCall(emulated, problem, case["deterministic"], case["multiprocessors"], case["gradients"])
    emulated.configure(0)
    call.forward()
    runs = []
    for seed in SEEDS:
        emulated.configure(seed, compute_capability=SM90)
        runs.append(call.backward())
        expectation.check(runs[-1], f"kind={case['kind']} seed={seed}")
    if case["deterministic"]:
        assert_same_bits(runs[0], runs[1], "between two orders of execution")


def plain_problem(**changes) -> Problem:
    sizes = {"batch": 2, "seqlen_q": 140, "seqlen_k": 150, "heads_q": 4, "heads_kv": 1}
    return Problem(**{**sizes, "head_dim": 128, "head_dim_v": 128, "dtype": "bfloat16", "causal": True, **changes})


def deterministic_call(emulated: EmulatedKernels, problem: Problem) -> EmulatedCall:
    """Four multiprocessors, for which the sm80 kernels split the group of query heads and these do not, so that the
    size of the workspace tells them apart."""
    return EmulatedCall(emulated, problem, deterministic=True, multiprocessors=4)


def workspace_and_gradients(emulated: EmulatedKernels, call: EmulatedCall, **device) -> tuple[int, dict]:
    emulated.configure(1)
    call.forward()
    emulated.configure(1, **device)
    return emulated.backward_workspace(call.params), call.backward()


def assert_runs_on_sm80(emulated: EmulatedKernels, call: EmulatedCall, **device) -> None:
    size, ours = workspace_and_gradients(emulated, call, **device)
    expected_size, expected = workspace_and_gradients(emulated, call, **{**device, "compute_capability": 80})
    assert size == expected_size
    assert_same_bits(ours, expected, "between this device and sm80")


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_these_kernels_run(emulated: EmulatedKernels, dims: tuple[int, int], dtype: str) -> None:
    call = deterministic_call(emulated, plain_problem(head_dim=dims[0], head_dim_v=dims[1], dtype=dtype))
    size, ours = workspace_and_gradients(emulated, call, compute_capability=SM90)
    other_size, theirs = workspace_and_gradients(emulated, call, compute_capability=80)
    assert size != other_size
    np.testing.assert_allclose(ours["dkey"], theirs["dkey"], atol=0.1)


UNSUPPORTED = {
    "dropout": {"dropout": 0.1},
    "block_mask": {"block_mask": np.ones((2, 1, 2, 2), dtype=np.int32)},
    "head_dim 96": {"head_dim": 96, "head_dim_v": 96},
    "head_dim 128 and 96": {"head_dim_v": 96},
    "no keys": {"seqlen_k": 0},
    "no queries": {"seqlen_q": 0},
}


@pytest.mark.parametrize("changes", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_calls_run_on_sm80(emulated: EmulatedKernels, changes: dict) -> None:
    call = deterministic_call(emulated, plain_problem(**changes))
    assert_runs_on_sm80(emulated, call, compute_capability=SM90)


@pytest.mark.parametrize(
    "device",
    [
        {"compute_capability": 100},
        {"compute_capability": 89},
        {"compute_capability": SM90, "shared_limit": SHARED_SMALL},
    ],
)
def test_other_devices_run_sm80(emulated: EmulatedKernels, device: dict) -> None:
    call = deterministic_call(emulated, plain_problem())
    assert_runs_on_sm80(emulated, call, **device)


def test_a_tensor_repeated_along_the_batch_runs_on_sm80(emulated: EmulatedKernels) -> None:
    """Tensor maps cannot express its stride of zero. The gradient of a sum is such a tensor."""
    call = deterministic_call(emulated, plain_problem())
    call.params.dout.stride_batch = 0
    assert_runs_on_sm80(emulated, call, compute_capability=SM90)


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_gradient_of_lse_alone(emulated: EmulatedKernels, dims: tuple[int, int], deterministic: bool) -> None:
    problem = plain_problem(head_dim=dims[0], head_dim_v=dims[1], dlse=True)
    call = EmulatedCall(emulated, problem, deterministic)
    emulated.configure(1, compute_capability=SM90)
    call.forward()
    call.params.dout.data = None
    alone = call.backward()
    problem.inputs["dout"][...] = 0
    # A zero dout makes dvalue exactly zero.
    assert not alone["dvalue"].any()
    Expectation(problem).check(alone)


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize("heads", [(2, 2), (4, 1)])
def test_same_bits_in_every_order_of_execution(
    emulated: EmulatedKernels, dims: tuple[int, int], heads: tuple[int, int]
) -> None:
    startend, causal = mask_samples.sample_mask("random_2", np.random.default_rng(3), 2, 1, 140, 300)
    problem = plain_problem(
        head_dim=dims[0],
        head_dim_v=dims[1],
        heads_q=heads[0],
        heads_kv=heads[1],
        seqlen_k=300,
        startend=startend,
        causal=causal,
        sink=True,
    )
    call = EmulatedCall(emulated, problem, deterministic=True, multiprocessors=100)
    emulated.configure(0, compute_capability=SM90)
    call.forward()
    runs = []
    for seed in range(4):
        emulated.configure(seed, compute_capability=SM90)
        runs.append(call.backward())
    for seed, run in enumerate(runs[1:], 1):
        assert_same_bits(runs[0], run, f"between seeds 0 and {seed}")


def test_keys_and_rows_that_nothing_sees(emulated: EmulatedKernels) -> None:
    """Key tiles without a query tile, and query tiles without a key tile."""
    problem = plain_problem(causal_offset=-200, seqlen_q=420, seqlen_k=500, sink=True)
    call = EmulatedCall(emulated, problem)
    _, results = workspace_and_gradients(emulated, call, compute_capability=SM90)
    Expectation(problem).check(results)
    assert not results["dkey"][:, 220:].any() and results["dkey"][:, :220].any()
    assert not results["dquery"][:, :200].any() and results["dquery"][:, 200:].any()


@pytest.mark.parametrize("deterministic", [False, True])
def test_rows_far_from_each_other(emulated: EmulatedKernels, deterministic: bool) -> None:
    """Some 70 query tiles, which are classified 32 at a time: keys that see the first, the middle or the last rows
    alone, both ends with 60 dead tiles in between, or nothing."""
    rows = 64 * 70 + 10
    hidden = [(64, rows, 0, 0), (0, 2100, 2150, rows), (0, rows - 5, 0, 0), (64, rows - 100, 0, 0), (0, rows, 0, 0)]
    startend = np.repeat(np.array(hidden, np.int32), 128, axis=0)[None, None]
    sizes = {"batch": 1, "heads_q": 1, "seqlen_q": rows, "seqlen_k": startend.shape[2], "causal": False}
    problem = plain_problem(**sizes, head_dim=64, head_dim_v=64, startend=startend)
    call = EmulatedCall(emulated, problem, deterministic)
    _, results = workspace_and_gradients(emulated, call, compute_capability=SM90)
    Expectation(problem).check(results)


class WatchedCall(EmulatedCall):
    """A call that keeps the contents of the workspace after its last launch."""

    def _run(self, workspace_size, launch, written: tuple[str, ...]) -> None:
        def launch_and_look(params) -> None:
            launch(params)
            self.workspace = self.kernels.arrays()

        super()._run(workspace_size, launch_and_look, written)


@pytest.mark.parametrize("dims", HEAD_DIMS)
@pytest.mark.parametrize(("capability", "deterministic"), [(80, False), (SM90, False), (SM90, True)])
@pytest.mark.parametrize("sink", [False, True])
def test_only_reached_sums_of_dquery_are_cleared(
    emulated: EmulatedKernels, dims: tuple[int, int], capability: int, deterministic: bool, sink: bool
) -> None:
    """In one batch every row sees a key, in the other rows [128, 384) see none. Sums that no key tile reaches keep
    their poison; dquery is zero there, with a clear sign bit."""
    rows, dead = 460, slice(128, 384)
    startend = np.zeros((2, 1, 150, 4), dtype=np.int32)
    startend[..., :2] = 7, 19
    startend[1, ..., 2:] = dead.start, dead.stop
    problem = plain_problem(
        seqlen_q=rows,
        head_dim=dims[0],
        head_dim_v=dims[1],
        startend=startend,
        causal=False,
        sink=sink,
    )
    call = WatchedCall(emulated, problem, deterministic)
    _, results = workspace_and_gradients(emulated, call, compute_capability=capability)
    Expectation(problem).check(results)
    assert not np.signbit(results["dquery"][1, dead]).any() and not results["dquery"][1, dead].any()
    assert results["dquery"][0, dead].all(axis=-1).any() and results["dquery"][1, dead.stop :].any()

    padded_rows = 512
    table = kernel_tables.table("sm90" if capability == SM90 else "sm80", "Backward")
    padded_dim = min(tile.head_dim for tile in table if tile.head_dim >= dims[0])
    count = problem.batch * problem.heads_q * padded_rows * padded_dim
    sums = call.workspace[-count:].reshape(problem.batch, problem.heads_q, padded_rows, padded_dim)
    assert (sums[1, :, dead] == 0xFFFFFFFF).all()
    reached = np.concatenate([sums[0, :, :448].ravel(), sums[1, :, : dead.start].ravel()])
    assert np.isfinite(reached.view(np.float32)).all()


@pytest.mark.parametrize("dims", [dims for dims in HEAD_DIMS if not TILES[dims].shares_keys])
@pytest.mark.parametrize("gradients", [GRADIENTS, ("dkey", "dvalue")])
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_warpgroup_skips_tiles_that_its_keys_do_not_see(
    emulated: EmulatedKernels, dims: tuple[int, int], gradients: tuple[str, ...], deterministic: bool
) -> None:
    """Counts products, the same number for deterministic dquery: if every other 64 keys are hidden, only a share of
    dquery remains of theirs."""
    startend = np.zeros((1, 1, 384, 2), dtype=np.int32)
    startend[..., 0] = 256
    dead = startend.copy()
    dead[:, :, np.arange(384) // 64 % 2 == 1] = 0
    counts = []
    for columns in (startend, dead):
        problem = plain_problem(
            batch=1,
            seqlen_q=256,
            seqlen_k=384,
            heads_q=1,
            head_dim=dims[0],
            head_dim_v=dims[1],
            startend=columns,
            causal=False,
        )
        call = EmulatedCall(emulated, problem, deterministic, gradients=gradients)
        emulated.configure(0)
        call.forward()
        emulated.configure(1, compute_capability=SM90)
        before = emulated.warpgroup_products()
        results = call.backward()
        counts.append(emulated.warpgroup_products() - before)
        Expectation(problem).check(results)
    tile_q, tile_k = TILES[dims].tile_q, TILES[dims].tile_k
    tiles = (256 // tile_q) * (384 // tile_k)
    # Steps of 16: scores and dP over the columns, dvalue and dkey over the queries, dquery over all keys of the tile.
    own = sum(dims) // 16 + 2 * tile_q // 16
    dquery = tile_k // 16 if "dquery" in gradients else 0
    assert counts == [2 * tiles * (own + dquery), tiles * (own + 2 * dquery)]


def arrays_of_workspace(call: WatchedCall, sizes: list[int]) -> list[np.ndarray]:
    """First arrays of 32-bit words in the workspace, each at a multiple of 256 bytes."""
    arrays, at = [], 0
    for size in sizes:
        arrays.append(call.workspace[at : at + size].astype(np.int32))
        at += -(-size // 64) * 64
    return arrays


@pytest.mark.parametrize("dims", HEAD_DIMS)
def test_key_tiles_with_many_query_tiles_come_first(emulated: EmulatedKernels, dims: tuple[int, int]) -> None:
    """Documents grow in one batch and shrink in the other."""
    length = 1000
    startend = np.zeros((2, 1, length, 2), dtype=np.int32)
    for batch, cuts in enumerate([[0, 130, 400, length], [0, 600, 870, length]]):
        for begin, end in itertools.pairwise(cuts):
            startend[batch, 0, begin:end] = end, begin
    problem = plain_problem(
        seqlen_q=length,
        seqlen_k=length,
        heads_q=1,
        head_dim=dims[0],
        head_dim_v=dims[1],
        startend=startend,
        causal=False,
    )
    call = WatchedCall(emulated, problem)
    workspace_and_gradients(emulated, call, compute_capability=SM90)
    tile_q, tile_k = TILES[dims].tile_q, TILES[dims].tile_k
    query_tiles, key_tiles = -(-length // tile_q), -(-length // tile_k)
    tables = [
        2 * 2 * key_tiles * tile_k,
        2 * 4 * key_tiles,
        2 * (query_tiles + 1),
    ]
    *_, work, order = arrays_of_workspace(call, [*tables, 2 * key_tiles, 2 * key_tiles])
    work, order = work.reshape(2, key_tiles), order.reshape(2, key_tiles)
    starts = np.arange(0, length, tile_q), np.arange(0, length, tile_k)
    for batch in range(2):
        visible = problem.visible[batch, 0]
        tiles = np.logical_or.reduceat(np.logical_or.reduceat(visible, starts[0], axis=0), starts[1], axis=1)
        np.testing.assert_array_equal(work[batch], tiles.sum(axis=0))
        # 64 classes. Sums added in this order are deterministic only if the tiles of a class keep their order.
        longest = work[batch].max()
        classes = (longest - work[batch]) * 64 // (longest + 1)
        np.testing.assert_array_equal(order[batch], np.argsort(classes, kind="stable"))
    assert (order[0] != order[1]).any()
