"""docs/masks.md: its pictures exist, and its generated part is that of the registry."""

from __future__ import annotations

import re
import runpy

from support.repository import REPOSITORY

from paddle_flashmask.masks.registry import MASKS

DOCS = REPOSITORY / "docs"
TEXT = (DOCS / "masks.md").read_text()


def test_pictures_exist() -> None:
    for picture in re.findall(r"\]\((images/.*?)\)", TEXT):
        assert (DOCS / picture).read_bytes().startswith(b"\x89PNG"), picture


def test_the_generated_part_is_current() -> None:
    script = runpy.run_path(str(DOCS / "make_mask_sections.py"))
    assert script["render"](TEXT) == TEXT, "run `python docs/make_mask_sections.py`"


def test_every_builder_is_on_the_page_of_the_api() -> None:
    page = (DOCS / "api" / "masks.md").read_text()
    listed = re.findall(r"^::: paddle_flashmask\.masks\.registry\.(\w+)$", page, flags=re.M)
    assert listed == sorted(entry.name for entry in MASKS)
