"""README.md: its platform is that of the package."""

from __future__ import annotations

import re

from support.repository import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()


def test_platform_is_that_of_the_package() -> None:
    description = re.search(r'^description = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), flags=re.M)[1]
    for text in (TEXT.split("![")[0], TEXT.split("## Limits")[1], description):
        assert "x86-64 Linux" in text
