"""Rows of generated sentences."""

from __future__ import annotations

import json
import random
from pathlib import Path

WORDS = [
    start + end for start in ("ba", "che", "di", "fol", "gra", "hu") for end in ("ling", "mor", "ne", "pash", "rix")
]


def sentence(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, most))) + "."


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
