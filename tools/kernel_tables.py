"""Rows of the tile tables in csrc/cuda/sm80 and csrc/cuda/sm90, for tools and tests.

The tables are constexpr C++. A small program includes them and prints every row, so a new row is known everywhere
without a second list.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools import build_kernels

# A line per row: folder, kernel, row, then the fields of Tile or Sm90Tile in their order.
PROGRAM = r"""
#include <cstdio>
#include "cuda/sm80/config.h"
#include "cuda/sm90/backward_config.h"
#include "cuda/sm90/forward_config.h"
using namespace pfm::cuda;
template <class Tile>
void Print(const char* kernel, int row, const Tile& t, int head_dim_v, int shared_bytes) {
  std::printf("%s %d %d %d %d %d %d", kernel, row, t.head_dim, head_dim_v, t.tile_q, t.tile_k, shared_bytes);
}
template <class Tile>
void PrintSm90(const char* kernel, int row, const Tile& t, int head_dim_v, bool shares_keys) {
  Print(kernel, row, t, head_dim_v, t.shared_bytes());
  std::printf(" %d %d %d %d %lld %d\n", t.consumers(), t.registers(), t.live_registers(), t.consumer_registers,
              static_cast<long long>(t.shared_traffic()), shares_keys);
}
int main() {
  int row = 0;
  for (const auto& t : sm80::kForward) Print("sm80 Forward", row++, t, t.head_dim_v, t.shared_bytes()), std::puts("");
  row = 0;
  for (const auto& t : sm80::kBackward) {
    Print("sm80 Backward", row++, t, t.head_dim, t.shared_bytes(t.adds_dquery())), std::puts("");
  }
  row = 0;
  for (const auto& t : sm80::kQueryGradient) {
    Print("sm80 QueryGradient", row++, t, t.head_dim_v, t.shared_bytes()), std::puts("");
  }
  row = 0;
  for (const auto& t : sm90::kForward) PrintSm90("sm90 Forward", row++, t, t.head_dim_v, false);
  row = 0;
  for (const auto& t : sm90::kBackward) PrintSm90("sm90 Backward", row++, t, t.head_dim_v, t.shares_keys);
}
"""


@dataclass(frozen=True)
class Tile:
    """One row: a kernel is instantiated for it with each element type."""

    folder: str  # of csrc/cuda
    kernel: str
    row: int
    head_dim: int
    head_dim_v: int
    tile_q: int
    tile_k: int
    shared_bytes: int  # dynamic


@dataclass(frozen=True)
class Sm90Tile(Tile):
    consumers: int  # warpgroups
    registers: int  # of the block
    live_registers: int  # of a consumer thread, estimated in the table
    consumer_registers: int
    shared_traffic: int  # bytes per tile
    shares_keys: bool  # of the backward: both consumers work on the same keys


@functools.cache
def tiles() -> tuple[Tile, ...]:
    """Every row of every table. Raises BuildError without a C++ compiler, CalledProcessError if a table is unsound."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "tables.cc", Path(folder) / "tables"
        source.write_text(PROGRAM)
        include = f"-I{build_kernels.ROOT / 'csrc'}"
        command = [build_kernels.find_compiler(), "-std=c++17", include, str(source), "-o", str(program)]
        subprocess.run(command, check=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return tuple(_tile_of(*line.split()) for line in lines)


def _tile_of(folder: str, kernel: str, *numbers: str) -> Tile:
    if folder != "sm90":
        return Tile(folder, kernel, *map(int, numbers))
    *others, shares_keys = map(int, numbers)
    return Sm90Tile(folder, kernel, *others, shares_keys=bool(shares_keys))


def table(folder: str, kernel: str) -> list[Tile]:
    """The rows of one table, in its order."""
    return [tile for tile in tiles() if (tile.folder, tile.kernel) == (folder, kernel)]


def sm90_table(kernel: str) -> list[Sm90Tile]:
    """The rows of a table of csrc/cuda/sm90, in its order."""
    return [tile for tile in table("sm90", kernel) if isinstance(tile, Sm90Tile)]
