"""docs/make_idea.py: its pictures are drawn and shown, and the numbers of docs/idea.md are those of its masks."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from support.repository import REPOSITORY

DOCS = REPOSITORY / "docs"
TEXT = (DOCS / "idea.md").read_text()
spec = importlib.util.spec_from_file_location("make_idea", DOCS / "make_idea.py")
make_idea = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_idea)


def test_numbers_are_those_of_the_masks() -> None:
    words = " ".join(TEXT.split())
    for fact in make_idea.facts():
        assert fact in words


def test_pictures_are_drawn_and_shown(tmp_path: Path) -> None:
    assert re.findall(r"\(images/idea/(\w+)\.png\)", TEXT) == list(make_idea.PICTURES)
    assert {path.stem for path in make_idea.IMAGES.iterdir()} == set(make_idea.PICTURES)
    for name, draw in make_idea.PICTURES.items():
        draw().savefig(tmp_path / f"{name}.png")
