"""The pages of the documentation and their code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .repository import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", flags=re.M | re.S)
_TITLE = re.compile(r'title="([^"]*)"')


@dataclass(frozen=True)
class CodeBlock:
    """A fenced code block. title: of ```` ```yaml title="..." ````, which names another library's code.

    line: number of its first line of code in the file.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    def run(self, names: dict) -> None:
        """Run a block of Python in a namespace. Tracebacks name the page and its line."""
        exec(compile("\n" * (self.line - 1) + self.text, str(self.page), "exec"), names)


def code_blocks(page: Path) -> list[CodeBlock]:
    text = page.read_text()
    blocks = []
    for match in _FENCE.finditer(text):
        language, _, options = match["info"].strip().partition(" ")
        title = _TITLE.search(options)
        code = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M)
        line = text.count("\n", 0, match.start()) + 2
        blocks.append(CodeBlock(page, line, language, title[1] if title else "", code))
    return blocks


def run_page(page: Path, names: dict) -> dict:
    """Run the Python blocks of a page in order in one namespace, and return it. Those with a title are not run."""
    for block in code_blocks(page):
        if block.language == "python" and not block.title:
            block.run(names)
    return names
