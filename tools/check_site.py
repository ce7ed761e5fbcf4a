"""Check of a built site: links lead to files and anchors that exist, and no page loads anything from another host.

    python -m tools.check_site build/site

Links to other hosts are not followed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that the browser loads by itself; those of <a> it follows on a click.
_LOADED = {("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
# Values of <link rel> that only name a page.
_NAMED = {"canonical", "next", "prev", "alternate"}


@dataclass
class _Reader(HTMLParser):
    """Anchors and links of a page. A link is (tag, address, whether the browser loads it by itself)."""

    anchors: set[str] = field(default_factory=set)
    links: list[tuple[str, str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors.update(value for name in ("id", "name") if (value := attributes.get(name)))
        for name in ("href", "src"):
            address = attributes.get(name)
            if address is not None:
                loaded = (tag, name) in _LOADED and attributes.get("rel") not in _NAMED
                self.links.append((tag, address, loaded))


@dataclass(frozen=True)
class Page:
    """A page of the site. path: its HTML file."""

    path: Path

    @cached_property
    def _reader(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.path.read_text(encoding="utf-8"))
        return reader

    @property
    def anchors(self) -> set[str]:
        return self._reader.anchors

    @property
    def links(self) -> list[tuple[str, str, bool]]:
        return self._reader.links


def problems(site: Path) -> Iterator[str]:
    """Yield a line for each link of a page that leads nowhere, and for each file that is loaded from another host."""
    site = site.resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for tag, address, loaded in page.links:
            problem = _problem(site, pages, page, address, loaded)
            if problem:
                yield f"{path.relative_to(site)}: <{tag}> {address}: {problem}"


def _problem(site: Path, pages: dict[Path, Page], page: Page, address: str, loaded: bool) -> str:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return "loaded from another host" if loaded and parts.scheme != "data" else ""
    target = page.path
    if parts.path:
        # 404.html is served at any address, so its links begin at the root of the site.
        folder = site if parts.path.startswith("/") else page.path.parent
        target = (folder / unquote(parts.path).lstrip("/")).resolve()
        if target.is_dir():
            target /= "index.html"
        if not target.is_relative_to(site) or not target.is_file():
            return "no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "no such anchor"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    site = parser.parse_args().site
    if not (site / "index.html").is_file():
        sys.exit(f"{site} holds no site: build it with `mkdocs build`")
    found = list(problems(site))
    if found:
        sys.exit("\n".join([*found, f"{len(found)} problems"]))
    print(f"{site}: every link of {len(list(site.rglob('*.html')))} pages leads somewhere")


if __name__ == "__main__":
    main()
