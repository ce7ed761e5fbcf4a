"""Bytes that the CUDA kernels move through L2 and DRAM, and the rate that DRAM bounds.

    python3 -m tools.traffic_budget > benchmarks/results/traffic_budget.md

A simulation of the launch, nothing is measured. As many blocks as the GPU holds at a time take work items in the order
of csrc/cuda/common/head_groups.h and visit one tile per step: in lockstep, where blocks of one head share each tile at
once, or spread evenly over the tiles, where they share it only as long as L2 keeps it. A run on a GPU lies between.
With deterministic dquery, where the key tiles of a head take turns, each block is one tile behind the block before. L2
is one LRU cache of tiles. The mask is full, so that every block visits every tile. Left out: lse, delta, columns of the
mask, and the kernels before and after.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from tools import build_kernels, kernel_tables

ELEMENT_BYTES = 2  # of query, key, value, out and their gradients
SUM_BYTES = 4  # of the sums of dquery
# Floating-point operations per pair are these times head_dim: two per multiply-add of each product.
OPERATIONS = {"Forward": 4, "Backward": 10}
# The source file that names the bytes which the heads of a group may take.
HEAD_GROUPS = "csrc/cuda/common/head_groups.h"
TURN_HEAD_GROUPS = "csrc/cuda/sm90/backward_host.cu"  # the same, with turns on sm90


@dataclass(frozen=True)
class Gpu:
    """Multiprocessors, L2 in bytes, DRAM bytes per second that a kernel reaches (about nine tenths of the peak), and
    TFLOP/s of dense 16-bit products (data sheets of the SXM cards)."""

    name: str
    multiprocessors: int
    l2_bytes: int
    dram_rate: float
    peak_tflops: int


# Folder of the kernels -> GPUs that run them.
GPUS = {
    "sm90": (Gpu("H100", 132, 50 << 20, 3.0e12, 989), Gpu("H200", 132, 50 << 20, 4.3e12, 989)),
    "sm80": (Gpu("A100 40 GB", 108, 40 << 20, 1.4e12, 312), Gpu("A100 80 GB", 108, 40 << 20, 1.8e12, 312)),
}
# Blocks of a multiprocessor at head dim 128. The forward for 8.0 has 128 threads of 255 registers and 66 KiB.
BLOCKS_PER_MULTIPROCESSOR = {("sm80", "Forward"): 2}


@dataclass(frozen=True)
class Problem:
    """A call with a full mask and head dim 128: batch size, heads, and sequence length of queries and keys."""

    batch: int
    heads_q: int
    heads_kv: int
    seqlen: int
    head_dim: int = 128

    def __str__(self) -> str:
        heads = f"H{self.heads_q}" if self.heads_q == self.heads_kv else f"GQA {self.heads_q}:{self.heads_kv}"
        return f"B{self.batch} {heads} {self.seqlen // 1024}K"


PROBLEMS = (Problem(4, 32, 32, 8192), Problem(1, 8, 8, 8192), Problem(1, 12, 12, 32768), Problem(1, 64, 8, 8192))


@dataclass(frozen=True)
class Launch:
    """Work of one kernel. An item is a tile of a head that a block keeps; it visits the tiles of `streams` tensors.

    Forward: items are the query tiles of a query head and visit the key tiles of its key-value head. Backward: items
    are the key tiles of a key-value head and visit the query tiles of each query head of the group.
    """

    heads: int
    items_per_head: int
    heads_per_stream: int  # heads that visit the same tensors; 1 in the backward
    streams: int  # tensors that an item visits one after the other; 1 in the forward
    tiles_per_stream: int
    read_bytes: int  # per visited tile
    added_bytes: int  # per visited tile: read and written in L2
    item_bytes: int  # read and written once per item
    pairs_per_tile: int
    blocks_per_multiprocessor: int = 1

    @property
    def head_bytes(self) -> int:
        """Bytes that the items of a head visit."""
        return self.streams * self.tiles_per_stream * (self.read_bytes + self.added_bytes)

    def heads_per_group(self, limit: int) -> int:
        """Heads of a group whose tensors fit `limit` bytes together, as the host code counts them."""
        return min(self.heads, max(1, limit // self.head_bytes) * self.heads_per_stream)

    def item(self, index: int, heads_per_group: int) -> tuple[int, int]:
        """Return head and rank of an item in the order of work (HeadGroups::At)."""
        group, place = divmod(index, heads_per_group * self.items_per_head)
        first = group * heads_per_group
        in_group = min(heads_per_group, self.heads - first)
        return first + place % in_group, place // in_group


@dataclass(frozen=True)
class Traffic:
    """Bytes per pair of query and key."""

    l2: float
    dram: float


def launch_of(folder: str, kernel: str, problem: Problem) -> Launch:
    """Describe the launch of "Forward" or "Backward" with the first tile of this head dim in csrc/cuda/`folder`."""
    dims = problem.head_dim, problem.head_dim
    tile = next(row for row in kernel_tables.table(folder, kernel) if (row.head_dim, row.head_dim_v) == dims)
    blocks = BLOCKS_PER_MULTIPROCESSOR.get((folder, kernel), 1)
    group = problem.heads_q // problem.heads_kv
    row_bytes = 2 * problem.head_dim * ELEMENT_BYTES  # key and value, query and out, query and dout
    query_tiles, key_tiles = -(-problem.seqlen // tile.tile_q), -(-problem.seqlen // tile.tile_k)
    if kernel == "Forward":
        return Launch(
            heads=problem.batch * problem.heads_q,
            items_per_head=query_tiles,
            heads_per_stream=group,
            streams=1,
            tiles_per_stream=key_tiles,
            read_bytes=tile.tile_k * row_bytes,
            added_bytes=0,
            item_bytes=tile.tile_q * row_bytes,
            pairs_per_tile=tile.tile_q * tile.tile_k,
            blocks_per_multiprocessor=blocks,
        )
    return Launch(
        heads=problem.batch * problem.heads_kv,
        items_per_head=key_tiles,
        heads_per_stream=1,
        streams=group,
        tiles_per_stream=query_tiles,
        read_bytes=tile.tile_q * row_bytes,
        added_bytes=tile.tile_q * problem.head_dim * SUM_BYTES,
        item_bytes=2 * tile.tile_k * row_bytes,
        pairs_per_tile=tile.tile_q * tile.tile_k,
        blocks_per_multiprocessor=blocks,
    )


def cached_bytes(folder: str, gpu: Gpu, in_turn: bool = False) -> int:
    """Read the bytes that the heads of a group may take from the sources."""
    source = (build_kernels.ROOT / HEAD_GROUPS).read_text()
    if folder == "sm90":
        host = (build_kernels.ROOT / TURN_HEAD_GROUPS).read_text()
        found = re.search(r" k(?:Turn)?CachedBytes = (\d+) << 20;", host if in_turn else source)
        return int(found[1]) << 20
    if in_turn:
        found = re.search(r" TurnCachedBytes\(int64_t l2_bytes\) { return l2_bytes / (\d+) \* (\d+); }", source)
        return gpu.l2_bytes // int(found[1]) * int(found[2])
    return gpu.l2_bytes // int(re.search(r" CachedBytes\(int64_t l2_bytes\) { return l2_bytes / (\d+); }", source)[1])


def _steps(launch: Launch, heads_per_group: int, blocks: int, spread: bool) -> Iterator[set[tuple[int, int, int]]]:
    """Yield the tiles (head, stream, tile) that the running blocks visit in each step."""
    items, tiles = launch.heads * launch.items_per_head, launch.tiles_per_stream
    for first in range(0, items, blocks):
        running = range(min(blocks, items - first))
        heads = [launch.item(first + i, heads_per_group)[0] // launch.heads_per_stream for i in running]
        starts = [i * tiles // blocks if spread else 0 for i in running]
        walks = set(zip(heads, starts, strict=True))
        for stream in range(launch.streams):
            for step in range(tiles):
                yield {(head, stream, (start + step) % tiles) for head, start in walks}


def _turns(launch: Launch, heads_per_group: int, blocks: int) -> Iterator[set[tuple[int, int, int]]]:
    """The same where each block of a head is one tile behind the block before."""
    items = launch.heads * launch.items_per_head
    visits = launch.streams * launch.tiles_per_stream
    for first in range(0, items, blocks):
        heads = [launch.item(index, heads_per_group)[0] for index in range(first, min(first + blocks, items))]
        ranks = [heads[:place].count(head) for place, head in enumerate(heads)]
        for step in range(visits + max(ranks)):
            walking = ((head, step - rank) for head, rank in zip(heads, ranks, strict=True))
            yield {(head, *divmod(at, launch.tiles_per_stream)) for head, at in walking if 0 <= at < visits}


def traffic(launch: Launch, heads_per_group: int, gpu: Gpu, spread: bool = False, in_turn: bool = False) -> Traffic:
    """Simulate the launch. A visited tile is one entry of an LRU cache; sums are written back when it is evicted."""
    entries = gpu.l2_bytes // (launch.read_bytes + launch.added_bytes)
    cache: OrderedDict[tuple[int, int, int], None] = OrderedDict()
    misses = 0
    blocks = gpu.multiprocessors * launch.blocks_per_multiprocessor
    walks = _turns(launch, heads_per_group, blocks) if in_turn else _steps(launch, heads_per_group, blocks, spread)
    for visited in walks:
        for tile in sorted(visited):
            if tile in cache:
                cache.move_to_end(tile)
                continue
            misses += 1
            cache[tile] = None
            if len(cache) > entries:
                cache.popitem(last=False)
    items = launch.heads * launch.items_per_head
    visits = items * launch.streams * launch.tiles_per_stream
    pairs = visits * launch.pairs_per_tile
    l2 = visits * (launch.read_bytes + launch.added_bytes) + items * launch.item_bytes
    dram = misses * (launch.read_bytes + 2 * launch.added_bytes) + items * launch.item_bytes
    return Traffic(l2 / pairs, dram / pairs)


def rate(kernel: str, problem: Problem, found: Traffic, gpu: Gpu) -> float:
    """Return the TFLOP/s at which DRAM moves the bytes of a kernel."""
    return OPERATIONS[kernel] * problem.head_dim / found.dram * gpu.dram_rate / 1e12


def _table(folder: str) -> list[str]:
    gpus = GPUS[folder]
    lines = [
        "| kernel | problem | heads per group | L2 bytes | DRAM bytes | " + " | ".join(gpu.name for gpu in gpus) + " |",
        "|" + "---|" * (5 + len(gpus)),
    ]
    for kernel in OPERATIONS:
        for problem in PROBLEMS:
            launch = launch_of(folder, kernel, problem)
            for heads in (launch.heads, launch.heads_per_group(cached_bytes(folder, gpus[0]))):
                found = [traffic(launch, heads, gpus[0], spread) for spread in (False, True)]
                cells = [f"{found[0].l2:.2f}", " / ".join(f"{f.dram:.2f}" for f in found)]
                cells += [_rate_cell(kernel, problem, found, gpu) for gpu in gpus]
                lines.append(f"| {kernel} | {problem} | {heads} of {launch.heads} | {' | '.join(cells)} |")
    for problem in PROBLEMS:
        launch = launch_of(folder, "Backward", problem)
        heads = launch.heads_per_group(cached_bytes(folder, gpus[0], in_turn=True))
        found = traffic(launch, heads, gpus[0], in_turn=True)
        cells = [
            f"{found.l2:.2f}",
            f"{found.dram:.2f}",
            *(_rate_cell("Backward", problem, [found], gpu) for gpu in gpus),
        ]
        lines.append(f"| Backward in turns | {problem} | {heads} of {launch.heads} | {' | '.join(cells)} |")
    return lines


def _rate_cell(kernel: str, problem: Problem, found: list[Traffic], gpu: Gpu) -> str:
    rates = [rate(kernel, problem, f, gpu) for f in found]
    return " / ".join(f"{r:.0f}" if r < gpu.peak_tflops else "-" for r in rates)


def markdown() -> str:
    """Format every kernel and problem, with all heads in one group and with the groups of the build."""
    lines = [
        "Bytes per pair of query and key at head dim 128 with a full mask, and the TFLOP/s that DRAM bounds. Counted,",
        "not measured: `python3 -m tools.traffic_budget > benchmarks/results/traffic_budget.md`.",
        "",
        "* DRAM bytes and rates: blocks in lockstep / spread evenly over the tiles.",
        "* Backward in turns: deterministic, each block one tile behind the block of its head before it.",
        "* With all heads in one group, heads are the fastest index over the whole launch.",
        "* A dash: DRAM does not bound the kernel below the rate of the tensor cores, "
        + " and ".join(f"{gpus[0].peak_tflops} TFLOP/s for {folder}" for folder, gpus in GPUS.items())
        + ".",
    ]
    for folder in GPUS:
        lines += ["", f"Kernels of `csrc/cuda/{folder}`:", "", *_table(folder)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
