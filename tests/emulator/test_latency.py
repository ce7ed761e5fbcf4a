"""What the kernels at head_dim 128 do about latency: loads from global memory that a warp waits for, per tile, and
bytes of copies in flight. Counted in the emulator, where a read of a column inside the loop shows at once."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from support.emulated import SHARED_LARGE, SHARED_MEDIUM, EmulatedCall, EmulatedKernels, LaunchCounts
from support.problem import Problem
from test_kernel_mutants import load_builder

from tools import kernel_tables

TILES = 32  # a warp classifies as many at a time
FEW = 2  # so that a stage is in flight
KEYS_PER_LANE = 128 // 32
BOUNDS = 4  # loads of a lane per range of rows: minimum and maximum of its begins and of its ends
DEVICES = {
    "sm80": {"compute_capability": 80, "shared_limit": SHARED_MEDIUM},
    "sm90": {"compute_capability": 90, "shared_limit": SHARED_LARGE},
}
RANGES = {False: 1, True: 3}  # of rows per key: the visible one, and with holes two of them
ROWS = 128 * 2  # bytes of a row of query, key, value or dout


def problem_of(direction: str, tile: int, tiles: int, partial: bool) -> Problem:
    """One query tile that visits so many key tiles, or one key tile that visits so many query tiles.

    partial: in every tile of 64 or 128 rows each key hides one row from itself.
    """
    seqlen_q, seqlen_k = (128, tile * tiles) if direction == "forward" else (tile * tiles, 128)
    startend = None
    if partial:
        row = (np.arange(seqlen_k) * 64 + 5) % seqlen_q
        startend = np.stack([row, row + 1, np.full(seqlen_k, seqlen_q), np.full(seqlen_k, seqlen_q)], -1)
        startend = startend.astype(np.int32)[None, None]
    return Problem(
        batch=1,
        seqlen_q=seqlen_q,
        seqlen_k=seqlen_k,
        heads_q=1,
        heads_kv=1,
        head_dim=128,
        head_dim_v=128,
        dtype="bfloat16",
        startend=startend,
    )


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory):
    return load_builder()(tmp_path_factory.mktemp("latency"))


@pytest.fixture(scope="module")
def emulated(builder) -> EmulatedKernels:
    return EmulatedKernels(builder.library)


def row_of(folder: str, direction: str) -> kernel_tables.Tile:
    """First row of the table for head_dim 128."""
    table = kernel_tables.table(folder, direction.capitalize())
    return next(row for row in table if (row.head_dim, row.head_dim_v) == (128, 128))


@functools.cache
def counts_of(emulated: EmulatedKernels, folder: str, direction: str, tiles: int, partial: bool) -> LaunchCounts:
    """Counts of the main kernel: the one with the most bytes in flight, or the last one."""
    row = row_of(folder, direction)
    tile = row.tile_k if direction == "forward" else row.tile_q
    call = EmulatedCall(emulated, problem_of(direction, tile, tiles, partial), multiprocessors=1)
    emulated.configure(1, **DEVICES[folder])
    call.forward()
    if direction == "backward":
        emulated.configure(1, **DEVICES[folder])
        call.backward()
    return max(reversed(emulated.launches()), key=lambda launch: launch.bytes_in_flight)


def loads_per_32_tiles(emulated: EmulatedKernels, folder: str, direction: str, partial: bool) -> list[int]:
    """Loads that 32 more tiles cost a thread, for each warp the most of its threads."""
    few, many = (counts_of(emulated, folder, direction, tiles, partial) for tiles in (FEW, FEW + TILES))
    return [b - a for a, b in zip(few.loads, many.loads, strict=True)]


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_warp_of_sm80_loads_bounds_alone(emulated: EmulatedKernels, direction: str, partial: bool) -> None:
    """A lane classifies one tile of 32 by its bounds. Columns arrive by copies."""
    loads = loads_per_32_tiles(emulated, "sm80", direction, partial)
    assert loads == [RANGES[partial] * BOUNDS] * len(loads)


@pytest.mark.parametrize("partial", [False, True])
def test_sm90_backward_leaves_loads_to_the_producer(emulated: EmulatedKernels, partial: bool) -> None:
    """For a partial tile a lane reads begin and end of every range of its keys, and hands over bits."""
    producer, *others = loads_per_32_tiles(emulated, "sm90", "backward", partial)
    columns = TILES * KEYS_PER_LANE * 2 * RANGES[True] if partial else 0
    assert producer == RANGES[partial] * BOUNDS + columns
    assert others == [0] * len(others)


@pytest.mark.parametrize("partial", [False, True])
def test_sm90_forward_leaves_loads_to_the_scheduler(emulated: EmulatedKernels, partial: bool) -> None:
    """Each of three warps reads the bounds of a group of tiles and of every tile, and columns of two quarters of the
    keys of a partial tile: its own, and the last one, whose work the three share."""
    loader, *schedulers = loads_per_32_tiles(emulated, "sm90", "forward", partial)[:4]
    columns = TILES * 2 * 2 * RANGES[True] if partial else 0
    assert schedulers == [2 + RANGES[partial] * BOUNDS + columns] * 3
    assert loader == 0


def test_no_consumer_of_the_sm90_forward_loads(emulated: EmulatedKernels) -> None:
    assert not any(counts_of(emulated, "sm90", "forward", FEW + TILES, True).loads[4:])


def stage_bytes(folder: str) -> int:
    """Query and dout of a tile, with lse and delta."""
    return row_of(folder, "backward").tile_q * 2 * (ROWS + 4)


def test_bytes_in_flight(emulated: EmulatedKernels) -> None:
    """sm80 backward: the next stage during the products. sm90 backward: the whole ring beside key and value."""
    sm80, sm90 = (counts_of(emulated, folder, "backward", FEW + TILES, False) for folder in ("sm80", "sm90"))
    assert sm80.bytes_in_flight == stage_bytes("sm80")
    assert sm90.bytes_in_flight == 3 * stage_bytes("sm90") + 2 * 128 * ROWS


# File, text, and the text with a load.
COLUMN_IN_LOOP = {
    "sm80": (
        "sm80/backward.h",
        "      KeySlice<kScoreBlocks> slice;\n",
        "      KeySlice<kScoreBlocks> slice;\n      ptx::LoadGlobal(arguments.mask.columns + warp_key);\n",
    ),
    "sm90": (
        "sm90/backward_scores.h",
        "  const int warp = ptx::ThreadIndex() / 32 % 4;\n",
        "  const int warp = ptx::ThreadIndex() / 32 % 4;\n  ptx::LoadGlobal(common.mask.columns + warp);\n",
    ),
}


@pytest.mark.parametrize("folder", COLUMN_IN_LOOP)
def test_a_column_read_inside_the_loop_is_counted(builder, emulated: EmulatedKernels, folder: str) -> None:
    mutant = builder.mutant(
        folder, *COLUMN_IN_LOOP[folder], f"{folder}/backward_bf16.cu", row_of(folder, "backward").row
    )
    right = loads_per_32_tiles(emulated, folder, "backward", partial=False)
    wrong = loads_per_32_tiles(EmulatedKernels(mutant), folder, "backward", partial=False)
    computing = slice(0, None) if folder == "sm80" else slice(4, None)
    assert [b - a for a, b in zip(right, wrong, strict=True)][computing] == [TILES] * len(right[computing])


def test_a_wait_for_the_next_stage_is_counted(builder) -> None:
    """The mistake halves the rate and changes no result."""
    mistake = ("sm80/backward.h", "ptx::WaitCopies<1>();", "ptx::WaitCopies<0>();", "sm80/backward_bf16.cu")
    mutant = EmulatedKernels(builder.mutant("wait", *mistake, row_of("sm80", "backward").row))
    assert counts_of(mutant, "sm80", "backward", FEW + TILES, False).bytes_in_flight == 0
