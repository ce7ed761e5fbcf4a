"""docs/masks.md: its code runs, its pictures exist, and every builder has a section."""

from __future__ import annotations

import re

from support.repository import REPOSITORY

from paddle_flashmask import masks

DOCS = REPOSITORY / "docs"
TEXT = (DOCS / "masks.md").read_text()


def test_code_runs() -> None:
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    assert len(blocks) > 15
    for block in blocks:
        exec(compile(block, "docs/masks.md", "exec"), names)
    assert names["out"].shape == [1, 12, 2, 8]


def test_pictures_exist() -> None:
    for picture in re.findall(r"\]\((images/.*?)\)", TEXT):
        assert (DOCS / picture).read_bytes().startswith(b"\x89PNG"), picture


def test_every_builder_has_a_section() -> None:
    sections = set(re.findall(r"^## (\w+)$", TEXT, flags=re.M))
    assert set(masks.__all__) - {"ColumnMask", "MaskStatistics", "hash_bucket_queries"} <= sections
