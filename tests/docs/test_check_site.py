"""tools/check_site.py: what it accepts, and a finding for each kind of fault, on sites of two pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_site import problems


@pytest.fixture
def site(tmp_path: Path):
    """A function that adds a text to one page, and returns the findings."""

    def check(text: str) -> list[str]:
        (tmp_path / "api").mkdir(exist_ok=True)
        (tmp_path / "style.css").write_text("")
        (tmp_path / "index.html").write_text('<h2 id="first">1</h2><a href="api/">API</a><a href="#first">1</a>')
        (tmp_path / "api" / "index.html").write_text(f'<link rel="stylesheet" href="../style.css">{text}')
        return list(problems(tmp_path))

    return check


@pytest.mark.parametrize(
    "text",
    [
        '<a href="../index.html#first">text</a>',
        '<a href="https://arxiv.org/abs/2410.01359#x">text</a>',
        '<a href="mailto:someone@example.org">text</a>',
        '<link rel="canonical" href="https://example.org/api/">',
        '<img src="data:image/png;base64,AA==">',
    ],
)
def test_accepted(site, text: str) -> None:
    assert site(text) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ('<a href="../other.html">text</a>', "api/index.html: <a> ../other.html: no such file"),
        ('<a href="../../outside.html">text</a>', "api/index.html: <a> ../../outside.html: no such file"),
        ('<a href="../index.html#second">text</a>', "api/index.html: <a> ../index.html#second: no such anchor"),
        ('<a href="#second">text</a>', "api/index.html: <a> #second: no such anchor"),
        ('<img src="missing.png">', "api/index.html: <img> missing.png: no such file"),
        (
            '<script src="https://example.org/x.js"></script>',
            "api/index.html: <script> https://example.org/x.js: loaded from another host",
        ),
        (
            '<link rel="stylesheet" href="//example.org/x.css">',
            "api/index.html: <link> //example.org/x.css: loaded from another host",
        ),
    ],
)
def test_found(site, text: str, finding: str) -> None:
    assert site(text) == [finding]
