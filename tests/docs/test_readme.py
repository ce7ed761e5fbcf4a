"""README.md: its code runs, and its platform is that of the package."""

from __future__ import annotations

import re

from support.repository import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()


def test_code_runs() -> None:
    names: dict = {}
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    exec(compile(block, "README.md", "exec"), names)
    assert names["out"].shape == [1, 512, 8, 64]
    assert names["query"].grad is not None


def test_platform_is_that_of_the_package() -> None:
    description = re.search(r'^description = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), flags=re.M)[1]
    for text in (TEXT.split("![")[0], TEXT.split("## Limits")[1], description):
        assert "x86-64 Linux" in text
