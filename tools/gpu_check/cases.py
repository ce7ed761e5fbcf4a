"""Problems of the operator's test grid, a pairwise cover of its choices."""

from __future__ import annotations

from typing import Any

from support import cases, mask_samples
from support.pairwise import pairwise
from support.problem import Problem

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


def problem_of(choice: dict[str, Any]) -> Problem:
    """Problem of one row of the grid, with the first of CHOICES for a missing name. Equal rows give equal data."""
    return cases.problem_of({name: options[0] for name, options in CHOICES.items()} | choice)


def name_of(index: int, choice: dict[str, Any]) -> str:
    return f"{index:03d} " + " ".join(f"{name}={value}".replace(" ", "") for name, value in choice.items())
