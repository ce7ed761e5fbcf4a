"""Order of work items over heads: every item once, ranks of a head in order, a group before the next one."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from host_programs import compile_program, lines_of

PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include "cuda/common/head_groups.h"
int main(int, char** arguments) {
  const auto number = [&](int i) { return std::atoll(arguments[i]); };
  const auto groups = pfm::cuda::HeadGroups::Make(number(1), number(2), number(3), number(4));
  const int tiles = static_cast<int>(number(5));
  for (int index = 0; index < groups.heads * tiles; ++index) {
    const auto item = groups.At(index, tiles);
    std::printf("%d %d\n", item.head, item.rank);
  }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program(tmp_path_factory.mktemp("head_groups"), PROGRAM)


@pytest.mark.parametrize(
    ("heads", "size", "sharing", "cached", "tiles", "per_group"),
    [
        (7, 10, 1, 35, 5, 3),  # two whole groups and one head
        (8, 10, 4, 25, 3, 8),  # four heads share one size
        (12, 10, 4, 15, 3, 4),
        (3, 100, 1, 35, 4, 1),  # a head alone exceeds the cache
        (5, 1, 1, 1000, 2, 5),
        (2, 0, 1, 1000, 1, 2),  # nothing to share
    ],
)
def test_order(program: Path, heads: int, size: int, sharing: int, cached: int, tiles: int, per_group: int) -> None:
    items = lines_of(program, heads, size, sharing, cached, tiles)
    assert sorted(items) == [(head, rank) for head in range(heads) for rank in range(tiles)]
    groups = [(group, list(of_group)) for group, of_group in groupby(items, lambda item: item[0] // per_group)]
    assert [group for group, _ in groups] == list(range(-(-heads // per_group)))
    for _, of_group in groups:
        assert [rank for _, rank in of_group] == sorted(rank for _, rank in of_group), "longest tiles of a group first"


SM80_PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include "cuda/sm80/head_order.h"
int main(int, char** arguments) {
  const auto number = [&](int i) { return std::atoll(arguments[i]); };
  pfm_params params = {};
  params.batch = number(1);
  params.heads_q = number(2);
  params.heads_kv = number(3);
  params.seqlen_k = number(4);
  params.head_dim = params.head_dim_v = 128;
  const auto groups = pfm::cuda::sm80::QueryHeadGroups(params, number(5) << 20);
  std::printf("%d %d\n", groups.heads, groups.heads_per_group);
}
"""


@pytest.mark.parametrize(
    ("batch", "heads_q", "heads_kv", "l2_mib", "expected"),
    [
        (4, 32, 32, 40, (128, 5)),  # A100: half of the cache holds 20 MiB, keys and values of a head take 4
        (1, 64, 8, 40, (64, 40)),  # eight query heads share them
        (2, 8, 8, 6, (16, 1)),  # 8.6: less than those of a head
        (1, 8, 8, 96, (8, 8)),  # 8.9: all heads fit
    ],
)
def test_groups_of_the_sm80_forward(
    tmp_path: Path, batch: int, heads_q: int, heads_kv: int, l2_mib: int, expected: tuple[int, int]
) -> None:
    program = compile_program(tmp_path, SM80_PROGRAM)
    assert lines_of(program, batch, heads_q, heads_kv, 8192, l2_mib) == [expected]
