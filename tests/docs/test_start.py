"""docs/start.md: its code prints what the page shows, and it installs what the README installs."""

from __future__ import annotations

import re

import pytest
from support.repository import REPOSITORY

from paddle_flashmask.masks.registry import MASKS

TEXT = (REPOSITORY / "docs" / "start.md").read_text()
README = (REPOSITORY / "README.md").read_text()


def packages(text: str) -> set[str]:
    """Everything that the pip lines of a page install."""
    lines = re.findall(r"^pip install (.*?)(?:\s+#.*)?$", text, flags=re.M)
    return {word for line in lines for word in line.split() if not word.startswith("-")}


def test_code_prints_what_the_page_shows(capsys: pytest.CaptureFixture) -> None:
    names: dict = {}
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, flags=re.S)
    assert len(shown) == TEXT.count("```python") == 3
    for code, expected in shown:
        exec(compile(code, "docs/start.md", "exec"), names)
        printed = "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())
        assert printed == expected
    assert len(MASKS) == 20 and "[twenty masks]" in TEXT


def test_installs_what_the_readme_installs() -> None:
    assert packages(TEXT)
    assert packages(TEXT) <= packages(README)
