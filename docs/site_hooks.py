"""Hook of MkDocs: files of the repository that a page links to become a part of the site.

A linked Markdown file becomes a page and any other file is copied as it is, both below `repository/`. Links of the
pages are adapted, so that the Markdown itself keeps links that work in a checkout. Where a link shows the name of a
Markdown file, the site shows the title of that page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = "repository"
# Pages of the navigation outside of docs.
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)\s#]+)")
_NAMED_LINK = re.compile(r"\[([\w./]+\.md)\]\(([^)\s#]+)")
_TITLE = re.compile(r"^# (.+)$", flags=re.MULTILINE)


def linked(page: Path, root: Path = REPOSITORY) -> set[Path]:
    """Return the existing files below `root` to which a Markdown file has relative links."""
    targets = ((page.parent / link).resolve() for link in _LINK.findall(page.read_text(encoding="utf-8")))
    return {target for target in targets if target.is_file() and target.is_relative_to(root)}


def files_outside(pages: Iterable[Path], root: Path = REPOSITORY) -> set[Path]:
    """Return the files outside of `root`/docs that the pages link to, also through other Markdown files."""
    found: set[Path] = set()
    unread = list(pages)
    while unread:
        for target in linked(unread.pop(), root) - found:
            if not target.is_relative_to(root / "docs"):
                found.add(target)
                unread += [target] if target.suffix == ".md" else []
    return found


def site_path(file: Path, root: Path = REPOSITORY) -> str:
    """Return the path of a file's source in the site: that below docs, or its place below `repository`."""
    inside = file.is_relative_to(root / "docs")
    return (file.relative_to(root / "docs") if inside else FOLDER / file.relative_to(root)).as_posix()


def adapt_links(markdown: str, page: Path, root: Path = REPOSITORY) -> str:
    """Rewrite the relative links of a page to the places that their files have in the site."""
    folder = Path(site_path(page, root)).parent

    def adapted(match: re.Match[str]) -> str:
        target = (page.parent / match[1]).resolve()
        if not target.is_file() or not target.is_relative_to(root):
            return match[0]
        return Path(os.path.relpath(site_path(target, root), folder)).as_posix()

    return _LINK.sub(adapted, markdown)


def name_pages(markdown: str, page: Path) -> str:
    """Replace the text of links that is the name of the linked Markdown file by the file's title, if it has one."""

    def named(match: re.Match[str]) -> str:
        text, link = match.groups()
        target = page.parent / link
        if not link.endswith(text) and not text.endswith(link):
            return match[0]
        title = _TITLE.search(target.read_text(encoding="utf-8")) if target.is_file() else None
        return f"[{title[1]}]({link}" if title else match[0]

    return _NAMED_LINK.sub(named, markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    pages = [Path(file.abs_src_path) for file in files.documentation_pages()]
    named = [REPOSITORY / name for name in PAGES]
    for path in sorted({*named, *files_outside([*pages, *named])}):
        files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = Path(page.file.abs_src_path)
    return adapt_links(name_pages(markdown, source), source)
