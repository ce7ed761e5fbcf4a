"""Bytes through L2 and DRAM: small launches counted by hand, and the launches of the kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools import traffic_budget
from tools.traffic_budget import Gpu, Launch, Problem

LAUNCH = Launch(
    heads=2,
    items_per_head=2,
    heads_per_stream=1,
    streams=1,
    tiles_per_stream=4,
    read_bytes=64,
    added_bytes=32,
    item_bytes=16,
    pairs_per_tile=8,
)
PAIRS = 2 * 2 * 4 * 8
H100, A100 = traffic_budget.GPUS["sm90"][0], traffic_budget.GPUS["sm80"][0]


def gpu(tiles_in_l2: int) -> Gpu:
    return Gpu("small", multiprocessors=2, l2_bytes=tiles_in_l2 * 96, dram_rate=1e12, peak_tflops=1)


def dram_bytes(launch: Launch, heads_per_group: int, tiles_in_l2: int, spread: bool = False) -> float:
    return traffic_budget.traffic(launch, heads_per_group, gpu(tiles_in_l2), spread).dram * PAIRS


def test_every_visit_goes_through_l2() -> None:
    """16 visits of 96 bytes, and 16 bytes for each of 4 items."""
    assert traffic_budget.traffic(LAUNCH, 2, gpu(8)).l2 * PAIRS == 16 * 96 + 4 * 16


def test_tiles_that_fit_l2_are_read_once() -> None:
    """8 tiles: 64 bytes are read, sums of 32 are read and written back."""
    assert dram_bytes(LAUNCH, 2, tiles_in_l2=8) == 8 * 128 + 4 * 16


def test_heads_fastest_share_nothing_in_a_small_l2() -> None:
    """Two blocks work on two heads, so each of the 16 visits misses."""
    assert dram_bytes(LAUNCH, 2, tiles_in_l2=2) == 16 * 128 + 4 * 16


def test_blocks_of_one_head_share_its_tiles() -> None:
    """Two blocks work on one head: in lockstep they share each tile. Spread evenly, L2 must hold all 4 tiles."""
    assert dram_bytes(LAUNCH, 1, tiles_in_l2=2) == 8 * 128 + 4 * 16
    assert dram_bytes(LAUNCH, 1, tiles_in_l2=2, spread=True) == 16 * 128 + 4 * 16
    assert dram_bytes(LAUNCH, 1, tiles_in_l2=4, spread=True) == 8 * 128 + 4 * 16


def test_query_heads_of_a_group_share_keys() -> None:
    """Two query heads visit the tiles of one key-value head."""
    assert dram_bytes(replace(LAUNCH, heads_per_stream=2), 2, tiles_in_l2=2) == 8 * 128 + 4 * 16


def test_items_are_taken_group_by_group_and_heads_first() -> None:
    launch = replace(LAUNCH, heads=3)
    assert [launch.item(index, 2) for index in range(6)] == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]


def test_groups_fill_the_limit() -> None:
    assert LAUNCH.head_bytes == 4 * 96
    assert [LAUNCH.heads_per_group(limit) for limit in (1, 4 * 96, 2 * 4 * 96, 9 * 4 * 96)] == [1, 1, 2, 2]


def test_the_backward_at_head_dim_128() -> None:
    """A tile of 64 queries and 128 keys: query and dout take 32 KiB, the sums of dquery 32 KiB, which DRAM moves twice.
    At 12 bytes per pair, 3 TB/s bound 1280 operations per pair at 320 TFLOP/s."""
    problem = Problem(4, 32, 32, 8192)
    launch = traffic_budget.launch_of("sm90", "Backward", problem)
    assert (launch.heads, launch.items_per_head, launch.tiles_per_stream) == (128, 64, 128)
    assert launch.read_bytes + 2 * launch.added_bytes == 96 * 1024 and launch.pairs_per_tile == 64 * 128
    assert launch.heads_per_group(traffic_budget.cached_bytes("sm90", H100)) == 3
    at_12_bytes = traffic_budget.Traffic(l2=8.0, dram=12.0)
    assert traffic_budget.rate("Backward", problem, at_12_bytes, H100) == pytest.approx(320)


def test_the_forward_at_head_dim_128() -> None:
    """Keys and values of a head of 8192 take 4 MiB. Eight query heads share them."""
    launch = traffic_budget.launch_of("sm90", "Forward", Problem(1, 64, 8, 8192))
    assert launch.head_bytes == 4 << 20 and launch.added_bytes == 0
    assert launch.heads_per_group(traffic_budget.cached_bytes("sm90", H100)) == 6 * 8


def test_groups_of_heads_lift_the_bound_of_dram() -> None:
    problem = Problem(4, 32, 32, 8192)
    launch = traffic_budget.launch_of("sm90", "Backward", problem)
    heads = launch.heads_per_group(traffic_budget.cached_bytes("sm90", H100))
    found = traffic_budget.traffic(launch, heads, H100, spread=True)
    assert traffic_budget.rate("Backward", problem, found, H100) > H100.peak_tflops


def test_groups_of_heads_lift_the_bound_of_dram_on_an_a100() -> None:
    """Half of 40 MB holds query, dout and the sums of dquery of two heads of 8192. All heads at once need 12 bytes per
    pair, and 1.4 TB/s bound 1280 operations per pair at 150 of 312 TFLOP/s."""
    problem = Problem(4, 32, 32, 8192)
    launch = traffic_budget.launch_of("sm80", "Backward", problem)
    heads = launch.heads_per_group(traffic_budget.cached_bytes("sm80", A100))
    assert heads == 2
    rates = [
        traffic_budget.rate("Backward", problem, traffic_budget.traffic(launch, per_group, A100), A100)
        for per_group in (launch.heads, heads)
    ]
    assert rates[0] < A100.peak_tflops / 2 and rates[1] > A100.peak_tflops


def test_two_blocks_of_the_forward_share_a_multiprocessor_of_an_a100() -> None:
    launch = traffic_budget.launch_of("sm80", "Forward", Problem(1, 8, 8, 8192))
    assert launch.blocks_per_multiprocessor == 2 and launch.pairs_per_tile == 128 * 64


def test_turns_spread_the_blocks_of_a_head_over_as_many_tiles() -> None:
    """Four blocks of a head follow each other, so L2 must hold the three tiles before the first one's."""
    launch, tiles_in_l2 = replace(LAUNCH, items_per_head=4), (2, 3)
    gpus = [replace(gpu(tiles), multiprocessors=4) for tiles in tiles_in_l2]
    in_turn = [traffic_budget.traffic(launch, 1, card, in_turn=True).dram * 2 * PAIRS for card in gpus]
    assert in_turn[0] > in_turn[1] == 8 * 128 + 8 * 16


@pytest.mark.parametrize("folder", ["sm80", "sm90"])
def test_dram_does_not_bound_the_deterministic_backward(folder: str) -> None:
    gpu = traffic_budget.GPUS[folder][0]
    for problem in traffic_budget.PROBLEMS:
        launch = traffic_budget.launch_of(folder, "Backward", problem)
        heads = launch.heads_per_group(traffic_budget.cached_bytes(folder, gpu, in_turn=True))
        found = traffic_budget.traffic(launch, heads, gpu, in_turn=True)
        assert traffic_budget.rate("Backward", problem, found, gpu) > gpu.peak_tflops, problem
