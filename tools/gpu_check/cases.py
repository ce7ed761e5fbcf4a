"""Problems of the operator's test grid, a pairwise cover of its choices."""

from __future__ import annotations

import functools
import re
from typing import Any

from support import cases, mask_samples
from support.pairwise import pairwise
from support.problem import Problem
from support.repository import REPOSITORY

_CONFIG = "csrc/cuda/sm90"
# Sizes around and across tiles of 32 to 128 rows and keys, short against long, and empty.
SIZES = [(1, 1), (2, 15), (63, 65), (129, 127), (1, 700), (600, 1), (385, 512), (257, 640), (7, 0), (0, 5)]
CHOICES: dict[str, list[Any]] = {
    "kind": mask_samples.kinds(),
    "size": SIZES,
    "dtype": ["bfloat16", "float16"],
    "heads": [(1, 1, 1), (2, 2, 2), (4, 2, 1), (4, 1, 4), (6, 3, 2), (8, 1, 1)],  # Hq, Hkv, Hm
    "dims": [(8, 8), (64, 64), (40, 64), (80, 80), (96, 96), (128, 128), (64, 128), (192, 128), (256, 256)],
    "window": [(-1, -1), (-1, -1), (0, 0), (100, -1), (-1, 50)],
    "causal_offset": [None, None, 40, -25],
    "blocks": [False, True],
    "sink": [False, True],
    "dropout": [0.0, 0.1],
    "dlse": [False, True],
    "layout": ["packed", "heads_first", "sequence_first"],
    "batch": [1, 2],
    "softmax_scale": [None, None, 0.7, -0.3],
    "deterministic": [False, True],
}
# The emulator takes seconds for these.
EMULATED_CHOICES: dict[str, list[Any]] = {
    "kind": ["causal_document", "random_4"],
    "size": [(33, 65)],
    "dtype": ["bfloat16", "float16"],
    "heads": [(2, 1, 2)],
    "dims": [(64, 64), (40, 24)],
    "sink": [True],
    "dropout": [0.1],
    "deterministic": [False, True],
}


def grid(emulated: bool = False) -> list[dict[str, Any]]:
    return pairwise(EMULATED_CHOICES if emulated else CHOICES)


@functools.cache
def forward_dims_90() -> tuple[tuple[int, int], ...]:
    """(D, Dv) of the rows of csrc/cuda/sm90/forward_config.h, in their order."""
    return tuple((row[0], row[1]) for row in _rows("forward_config.h", 8))


@functools.cache
def backward_dims_90() -> tuple[tuple[int, int], ...]:
    """(D, Dv) of the rows of csrc/cuda/sm90/backward_config.h, in their order."""
    text = (REPOSITORY / _CONFIG / "backward_config.h").read_text()
    both = "int head_dim, head_dim_v;" in text
    return tuple((row[0], row[1] if both else row[0]) for row in _rows("backward_config.h", 6))


def _rows(header: str, least: int) -> list[list[int]]:
    """Leading integers of each row of a config table, of which it has at least `least` fields."""
    text = (REPOSITORY / _CONFIG / header).read_text()
    rows = []
    for fields in re.findall(r"^    \{(\d[^{}]*)\},", text, re.M):
        words = fields.split(",")
        assert len(words) >= least, f"{header}: {fields}"
        rows.append([int(word) for word in words if word.strip().isdigit()])
    assert rows, f"{header} has no rows"
    return rows


def kernel_row(generation: int, direction: str, dims: tuple[int, int], in_turn: bool = False) -> str:
    """Name of a row of kernels for the quarantine. A deterministic backward, which waits for turns, has its own."""
    return f"{generation / 10} {direction}{' in turn' if in_turn else ''} D{dims[0]},{dims[1]}"


def runs_on_90(problem: Problem) -> bool:
    """Whether the 9.0 forward takes the problem; the 8.0 kernels take the rest."""
    plain = problem.dropout == 0 and problem.block_mask is None and problem.scale > 0
    return plain and (problem.head_dim, problem.head_dim_v) in forward_dims_90()


def stratum_90(emulated: bool = False) -> list[dict[str, Any]]:
    """Rows that all run on the 9.0 kernels."""
    only: dict[str, list[Any]] = {"dims": list(forward_dims_90()), "dropout": [0.0], "blocks": [False]}
    if emulated:
        return pairwise({**EMULATED_CHOICES, **only, "dims": [(64, 64)]})
    scales = [scale for scale in CHOICES["softmax_scale"] if scale is None or scale > 0]
    return pairwise({**CHOICES, **only, "softmax_scale": scales})


def problem_of(choice: dict[str, Any]) -> Problem:
    """Problem of one row of the grid, with the first of CHOICES for a missing name. Equal rows give equal data."""
    return cases.problem_of({name: options[0] for name, options in CHOICES.items()} | choice)


def name_of(index: int, choice: dict[str, Any]) -> str:
    return f"{index:03d} " + " ".join(f"{name}={value}".replace(" ", "") for name, value in choice.items())
