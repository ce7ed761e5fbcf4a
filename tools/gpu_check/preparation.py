"""Mask preparation on its own against NumPy: the first rungs of the ladder.

python3 -m tools.gpu_check.preparation TARGET compiles the program for a GPU.

Every kernel reads the columns, bounds and orders that it writes, and the C ABI shows none of them. The program
tests/cuda/preparation.cu does.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from support.call import params_of
from support.problem import Problem
from support.repository import REPOSITORY

from tools import build_kernels

from .cases import problem_of
from .device import load_driver
from .outcome import Case
from .plan import Settings
from .processes import program_beside, run_program

NAME = "preparation"
PROGRAM = REPOSITORY / "tests" / "cuda" / "preparation.cu"
SECONDS, BUILD_SECONDS = 15.0, 60.0
BUCKETS = 64  # kOrderBuckets of csrc/core/order.h
GROUP = 32  # kGroupTiles of csrc/cuda/common/mask_table.h
# Tiles of the 9.0 rows and of the 8.0 kernels; masks with no, one and two holes, several masks, and ragged ends.
RUNGS: tuple[tuple[dict[str, Any], tuple[int, int]], ...] = (
    ({"kind": "causal", "size": (256, 256), "heads": (1, 1, 1)}, (128, 128)),
    ({"kind": "causal_document", "size": (700, 650), "heads": (4, 2, 2), "batch": 2}, (128, 128)),
    ({"kind": "random_4", "size": (600, 900), "heads": (2, 1, 1), "window": (300, 200)}, (64, 96)),
    ({"kind": "sliding_window", "size": (1500, 9000), "heads": (1, 1, 1)}, (64, 64)),
)


def cases(settings: Settings) -> list[Case]:
    """Compilation of the program, then a case per mask."""
    found = [Case("mask preparation compiles", lambda: {"program": str(program_of(settings))}, BUILD_SECONDS)]
    for choice, tiles in RUNGS[:3] if settings.emulated else RUNGS:
        problem = problem_of({"dtype": "bfloat16", "dims": (64, 64), **choice})
        name = f"mask preparation {choice['kind']} {choice['size'][0]}x{choice['size'][1]} tiles {tiles[0]}x{tiles[1]}"
        rung = functools.partial(_rung, settings, problem, tiles)
        found.append(Case(name, rung, SECONDS, "mask preparation"))
    return found


def program_of(settings: Settings) -> Path:
    """The program beside the library, or compiled now."""
    beside = None if settings.emulated else program_beside(settings.library, NAME)
    return beside or build(settings.emulated)


def build(emulated: bool, target: Path | None = None) -> Path:
    """Path of the program, compiled unless nothing changed."""
    compiler = build_kernels.find_compiler()
    if emulated:
        toolkit, units = None, build_kernels.emulated_units(compiler)
    else:
        toolkit = build_kernels.wanted_cuda("1")
        units = build_kernels.cuda_units(toolkit, compiler, build_kernels.COMMON_ARCHS)
    prepare = next(unit for unit in units if unit.source.parts[-2:] == ("common", "prepare.cu"))
    include = f"-I{REPOSITORY / 'tests'}"
    program = dataclasses.replace(prepare, source=PROGRAM, command=(*prepare.command, include))
    machine = [unit for unit in units if unit.source.suffix == ".cc"]  # of the emulator
    objects = build_kernels.ObjectCache().compile_all([program, prepare, *machine])
    target = target or REPOSITORY / "build" / f"{NAME}{'_emulated' if emulated else ''}"
    command = [compiler, "-Wl,-s", *map(str, objects)]
    if toolkit:
        command += [str(toolkit.library), "-ldl", "-lrt", "-lpthread"]
    build_kernels.link(command, target)
    return target


def _rung(settings: Settings, problem: Problem, tiles: tuple[int, int]) -> None:
    if not settings.emulated:
        load_driver()
    check(problem, tiles, prepare(program_of(settings), problem, tiles))


def prepare(program: Path, problem: Problem, tiles: tuple[int, int]) -> dict[str, np.ndarray]:
    """Arrays of the MaskTable by name, int32."""
    params = params_of(problem)
    values = np.zeros(0, np.int32)
    if problem.startend is not None:
        values = np.ascontiguousarray(problem.startend)
        params.startend_bounds = values.shape[-1]
        params.startend_stride_batch, params.startend_stride_head = (stride // 4 for stride in values.strides[:2])
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder) / "input", Path(folder) / "output"
        given.write_bytes(bytes(params) + np.array(tiles, np.int32).tobytes() + values.tobytes())
        done = run_program([program, given, written], SECONDS)
        assert done.returncode == 0, f"status {done.returncode}: {done.stdout[-1500:]}"
        return read_arrays(written.read_bytes())


def read_arrays(data: bytes) -> dict[str, np.ndarray]:
    found, at = {}, 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, count = data[at:end].decode().split()
        found[name] = np.frombuffer(data, np.int32, int(count), end + 1)
        at = end + 1 + 4 * int(count)
    return found


def check(problem: Problem, tiles: tuple[int, int], found: dict[str, np.ndarray]) -> None:
    """Expect columns that hide what the mask hides, and bounds, work and orders that follow from them.

    Raises:
        AssertionError: names the array, the mask and the first place.
    """
    tile_q, tile_k = tiles
    query_tiles, key_tiles = -(-problem.seqlen_q // tile_q), -(-problem.seqlen_k // tile_k)
    groups = -(-key_tiles // GROUP)
    seen = problem.visible[:, :: problem.heads_q // problem.heads_mask] if problem.startend is not None else None
    seen = problem.visible[:1, :1] if seen is None else seen
    seen = seen.reshape(-1, *seen.shape[2:])
    masks = len(seen)
    columns = found["columns"].reshape(masks, -1, 2, key_tiles * tile_k)
    for mask in range(masks):
        own = columns[mask][..., : problem.seqlen_k]
        _expect("columns", mask, _seen_by(own, problem.seqlen_q), seen[mask])
        bounds = _bounds(own, tile_k, key_tiles)
        _expect("bounds", mask, found["bounds"].reshape(masks, -1, 4, key_tiles)[mask], bounds)
        last = [min((group + 1) * GROUP, key_tiles) for group in range(groups)]
        spans = [slice(group * GROUP, end) for group, end in enumerate(last)]
        expected = np.array([[bounds[0, 0, s].min() for s in spans], [bounds[0, 3, s].max() for s in spans]])
        _expect("groups", mask, found["groups"].reshape(masks, 2, groups)[mask], expected)
        live = _live_tiles(bounds, tile_q, query_tiles)  # [key tile, query tile]
        for name, work in (("", live.sum(axis=0)), ("key_", live.sum(axis=1))):
            computed = found[f"{name}work"].reshape(masks, -1)[mask]
            _expect(f"{name}work", mask, computed[: len(work)], work)
            _expect(f"{name}order", mask, found[f"{name}order"].reshape(masks, -1)[mask], _longest_first(work))


def _seen_by(columns: np.ndarray, rows: int) -> np.ndarray:
    """Pairs that columns [range, begin or end, key] leave visible, bool [rows, keys]."""
    row = np.arange(rows)[:, None]
    inside = [(begin <= row) & (row < end) for begin, end in columns]
    return inside[0] & ~functools.reduce(np.logical_or, inside[1:], np.zeros_like(inside[0]))


def _bounds(columns: np.ndarray, tile_k: int, key_tiles: int) -> np.ndarray:
    """min_begin, max_begin, min_end, max_end of each range, [range, 4, key tile]."""
    tiles = [slice(tile * tile_k, (tile + 1) * tile_k) for tile in range(key_tiles)]
    return np.array(
        [
            [[reduce(bound[tile]) for tile in tiles] for bound in (begin, end) for reduce in (np.min, np.max)]
            for begin, end in columns
        ]
    )


def _live_tiles(bounds: np.ndarray, tile_q: int, query_tiles: int) -> np.ndarray:
    """Tiles that the bounds do not rule out, bool [key tile, query tile]."""
    tile = np.arange(query_tiles)[None]
    begin, end = bounds[0, 0] // tile_q, -(-bounds[0, 3] // tile_q)
    live = (begin[:, None] <= tile) & (tile < end[:, None])
    for _, max_begin, min_end, _ in bounds[1:]:
        live &= ~((-(-max_begin // tile_q)[:, None] <= tile) & (tile < (min_end // tile_q)[:, None]))
    return live


def _longest_first(work: np.ndarray) -> np.ndarray:
    """Stable order by work in BUCKETS classes, the most first."""
    largest = int(work.max(initial=0))
    return np.argsort((largest - work.astype(np.int64)) * BUCKETS // (largest + 1), kind="stable")


def _expect(name: str, mask: int, found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape, f"{name} of mask {mask}: shape {found.shape}, expected {expected.shape}"
    wrong = np.argwhere(found != expected)
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        raise AssertionError(
            f"{name} of mask {mask}: {len(wrong)} of {found.size} differ; at {at} {found[at]}, expected {expected[at]}"
        )


if __name__ == "__main__":
    print(build(False, Path(sys.argv[1]).resolve()))
