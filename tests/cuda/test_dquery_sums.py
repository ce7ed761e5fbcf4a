"""Orders of the sums of dquery: every place once, and the sectors of L2 that one reduction of a warp touches."""

from __future__ import annotations

import pytest
from host_programs import compile_program, lines_of

PROGRAM = r"""
#include <cstdio>
#include "cuda/backward/dquery_sums.h"
int main() {
  for (const bool in_quads : {false, true}) {
    for (int accumulator = 0; accumulator < 4; ++accumulator) {
      for (int lane = 0; lane < 32; ++lane) {
        std::printf("%d %d %d\n", in_quads, accumulator, pfm::cuda::PlaceInBlock(in_quads, lane, accumulator));
      }
    }
  }
}
"""
FLOATS_PER_SECTOR = 32 // 4


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[int, list[int]]]:
    """Places of all lanes, by accumulator, in lane order and in quads."""
    found: dict[bool, dict[int, list[int]]] = {in_quads: {e: [] for e in range(4)} for in_quads in (False, True)}
    for in_quads, accumulator, place in lines_of(compile_program(tmp_path_factory.mktemp("dquery_sums"), PROGRAM)):
        found[bool(in_quads)][accumulator].append(place)
    return found


@pytest.mark.parametrize("in_quads", [False, True])
def test_every_sum_has_a_place(places: dict, in_quads: bool) -> None:
    assert sorted(place for lanes in places[in_quads].values() for place in lanes) == list(range(128))


def test_a_scalar_reduction_covers_whole_sectors(places: dict) -> None:
    """Of one accumulator of all lanes: 128 bytes in 4 sectors. In quads it would touch all 16 sectors of the block."""
    for accumulator in range(4):
        assert len({place // FLOATS_PER_SECTOR for place in places[False][accumulator]}) == 4
        assert len({place // FLOATS_PER_SECTOR for place in places[True][accumulator]}) == 16


def test_a_vector_reduction_adds_neighbours(places: dict) -> None:
    for lane in range(32):
        assert [places[True][accumulator][lane] for accumulator in range(4)] == list(range(4 * lane, 4 * lane + 4))
