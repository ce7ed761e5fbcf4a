"""First light: mask preparation, then the smallest problem of each kernel and one more mechanism per rung.

Rungs share a process up to the first failure, because opening a GPU takes longer than a rung. Where a rung fails, the
mechanism that it adds is the suspect: the tile loop, the ring of stages, the scheduler, masks, groups of heads, the
sums of dquery.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from support.compare import Expectation
from support.dense import GRADIENTS
from support.problem import Problem

from . import preparation
from .cases import backward_dims_90, forward_dims_90, kernel_row, problem_of
from .device import Device, open_device, with_generation
from .grid import judge
from .outcome import Case
from .plan import Settings

SECONDS = 8.0
_BLOCKS = 132  # multiprocessors of an H100
_FIRST = (128, 128)
_CONTROL = 80
_WITHOUT_DQUERY = tuple(name for name in GRADIENTS if name != "dquery")


@dataclass(frozen=True)
class Rung:
    name: str
    choice: dict[str, Any]
    workers: int = 0  # limit of blocks; 0: one for each multiprocessor
    gradients: tuple[str, ...] = ()  # of a backward; none: the forward
    deterministic: bool = False
    rehearsed: bool = False  # also without a GPU, where the emulator takes seconds for a tile


FORWARD_RUNGS = (
    Rung("one tile, one consumer", {"size": (64, 64)}, rehearsed=True),
    Rung("one tile", {"size": (128, 64)}),
    Rung("2 key tiles", {"size": (64, 256)}),
    Rung("3 key tiles, the ring wraps", {"size": (64, 384)}),
    Rung("several items in one block", {"size": (520, 384), "heads": (2, 2, 1)}, workers=1),
    Rung("partial mask", {"size": (256, 256), "kind": "causal"}),
    Rung("holes", {"size": (256, 256), "kind": "random_4"}, rehearsed=True),
    Rung("grouped heads", {"size": (256, 256), "kind": "causal_document", "heads": (8, 2, 2)}),
    Rung("every multiprocessor", {"size": (512, 64), "heads": (_BLOCKS // 4, 1, 1), "kind": "causal_document"}),
)
BACKWARD_RUNGS = (
    Rung("one tile, dquery unwanted", {"size": (64, 64)}, gradients=_WITHOUT_DQUERY, rehearsed=True),
    Rung("several tiles, dquery unwanted", {"size": (512, 384)}, gradients=_WITHOUT_DQUERY),
    Rung("dquery in any order", {"size": (512, 384)}, gradients=GRADIENTS),
    Rung("dquery in turn", {"size": (512, 384)}, gradients=GRADIENTS, deterministic=True, rehearsed=True),
    Rung("dquery in turn, one block", {"size": (300, 384)}, workers=1, gradients=GRADIENTS, deterministic=True),
    Rung("holes", {"size": (384, 384), "kind": "random_4"}, gradients=GRADIENTS),
    Rung("grouped heads", {"size": (384, 384), "kind": "causal_document", "heads": (8, 2, 2)}, gradients=GRADIENTS),
)


def rungs(emulated: bool) -> Iterator[tuple[int, str, tuple[int, int], Rung]]:
    """Generation, direction, (D, Dv) and rung: 8.0 as control, head_dim 128 of 9.0, then the other rows of 9.0.

    The control is short, and tells a fault of 9.0 from one of the machine, the C ABI or mask preparation.
    """
    directions = (("forward", forward_dims_90(), FORWARD_RUNGS), ("backward", backward_dims_90(), BACKWARD_RUNGS))
    rows = [(generation, name, _FIRST, listed) for generation in (_CONTROL, 90) for name, _, listed in directions]
    rows += [(90, name, dims, listed) for name, table, listed in directions for dims in table if dims != _FIRST]
    for generation, direction, dims, listed in rows:
        for rung in listed:
            if not emulated or (rung.rehearsed and dims[0] <= 128):
                yield generation, direction, dims, rung


def cases(settings: Settings) -> list[Case]:
    found = preparation.cases(settings)
    for generation, direction, dims, rung in rungs(settings.emulated):
        name = f"{kernel_row(generation, direction, dims)} {rung.name}"
        climb = functools.partial(check, settings, generation, dims, rung)
        found.append(Case(name, climb, SECONDS, kernel_row(generation, direction, dims, rung.deterministic)))
    return found


def check(settings: Settings, generation: int, dims: tuple[int, int], rung: Rung) -> None:
    problem = problem_for(dims, rung)
    results = climb(open_device(settings), generation, problem, rung)
    judge(Expectation(problem), results, f"kernels of {generation / 10}, {rung.name}")


def problem_for(dims: tuple[int, int], rung: Rung) -> Problem:
    return problem_of({"kind": "full", "dtype": "bfloat16", "heads": (1, 1, 1), **rung.choice, "dims": dims})


def climb(device: Device, generation: int, problem: Problem, rung: Rung) -> dict[str, np.ndarray]:
    """Results of the rung. The outputs are poisoned and guarded, as in every call of tests/support.

    A backward follows the forward of the control, so that a fault of the 9.0 forward does not hide it.
    """
    call = device.call(problem, rung.deterministic, rung.workers, rung.gradients or GRADIENTS)
    with with_generation(device.kernels, _CONTROL if rung.gradients else generation):
        results = call.forward()
    if rung.gradients:
        with with_generation(device.kernels, generation):
            results = call.backward()
    return results
