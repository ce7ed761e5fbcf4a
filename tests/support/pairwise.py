"""Pairwise covers: few cases that contain every pair of choices."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence


def pairwise(choices: Mapping[str, Sequence], seed: int = 0) -> list[dict]:
    """Rows with one choice per name, such that any two choices of different names occur together in some row."""
    rng = random.Random(seed)
    names = sorted(choices, key=lambda name: -len(choices[name]))
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i in range(len(choices[a]))
        for j in range(len(choices[b]))
    }
    rows = []
    while missing:
        row = dict(rng.choice(sorted(missing)))  # start from a missing pair
        for name in names:
            if name not in row:
                row[name] = _most_useful(name, len(choices[name]), row, names, missing, rng)
        missing -= {_pair(names, x, y) for x, y in itertools.combinations(row.items(), 2)}
        rows.append({name: choices[name][option] for name, option in row.items()})
    return rows


def _most_useful(name: str, count: int, row: dict, names: list[str], missing: set, rng: random.Random) -> int:
    """Option of `name` that covers the most missing pairs with the choices already in the row."""
    options = list(range(count))
    rng.shuffle(options)
    return max(options, key=lambda o: sum(_pair(names, (name, o), other) in missing for other in row.items()))


def _pair(names: list[str], first: tuple[str, int], second: tuple[str, int]) -> tuple:
    return (first, second) if names.index(first[0]) < names.index(second[0]) else (second, first)
