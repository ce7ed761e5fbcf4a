"""docs/site_hooks.py: which files of the repository join the site, where links to them lead, and what links show."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from support.repository import REPOSITORY

HOOKS = runpy.run_path(str(REPOSITORY / "docs" / "site_hooks.py"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "README.md": "[start](docs/start.md) [masks](docs/guide/masks.md#top) [licence](LICENSE)",
        "LICENSE": "text",
        "docs/start.md": "[all](../README.md) [web](https://example.org/a.md) [none](missing.md) [here](#top)",
        "docs/guide/masks.md": "[table](../../results/table.md) ![picture](../images/a.png)",
        "docs/images/a.png": "",
        "results/table.md": "[numbers](table.csv)",
        "results/table.csv": "1",
        "results/other.csv": "2",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_linked_files_join_the_site(root: Path) -> None:
    pages = [root / "docs" / "start.md", root / "docs" / "guide" / "masks.md"]
    found = HOOKS["files_outside"](pages, root)
    names = ["LICENSE", "README.md", "results/table.csv", "results/table.md"]
    assert sorted(str(path.relative_to(root)) for path in found) == names


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (
            "docs/start.md",
            "[all](repository/README.md) [web](https://example.org/a.md) [none](missing.md) [here](#top)",
        ),
        ("docs/guide/masks.md", "[table](../repository/results/table.md) ![picture](../images/a.png)"),
        ("README.md", "[start](../start.md) [masks](../guide/masks.md#top) [licence](LICENSE)"),
        ("results/table.md", "[numbers](table.csv)"),
    ],
)
def test_links_are_adapted(root: Path, page: str, expected: str) -> None:
    assert HOOKS["adapt_links"]((root / page).read_text(), root / page, root) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[masks.md](guide/masks.md#top), [a](b)", "[All masks](guide/masks.md#top), [a](b)"),
        ("[docs/guide/masks.md](guide/masks.md)", "[All masks](guide/masks.md)"),
        ("[masks](guide/masks.md)", "[masks](guide/masks.md)"),
        ("[other.md](guide/masks.md)", "[other.md](guide/masks.md)"),
        ("[untitled.md](untitled.md)", "[untitled.md](untitled.md)"),
        ("[missing.md](missing.md)", "[missing.md](missing.md)"),
    ],
)
def test_links_show_titles(tmp_path: Path, markdown: str, expected: str) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "masks.md").write_text("Text\n\n# All masks\n\n## Part\n")
    (tmp_path / "untitled.md").write_text("## Part\n")
    assert HOOKS["name_pages"](markdown, tmp_path / "start.md") == expected
