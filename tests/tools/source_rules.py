"""Rules of the source tree, as functions from a list of files to a list of findings.

Paths are relative to the root, with `/`. The tables for this repository are in test_layers.py.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

CPP_SUFFIXES = (".h", ".c", ".cc", ".cu")
SOURCE_SUFFIXES = (*CPP_SUFFIXES, ".py", ".sh")

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)
_ASSEMBLY = re.compile(r"\b(?:asm|__asm|__asm__)\s*(?:volatile\b|\()")
_SYMBOL_NAME = re.compile(r"\)\s*__asm__\(\"\w+\"\)")  # symbol name of a declared function, not an instruction


@dataclass(frozen=True)
class Edge:
    """One include or import between files of the tree."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} -> {self.target}"


@dataclass(frozen=True)
class Layer:
    """Files that may depend on each other and on the layers named in `sees`.

    Each component of a pattern may contain wildcards. A pattern that ends in `/` stands for everything in a folder, any
    other for files. Different folders that match a layer may not depend on each other.
    """

    name: str
    patterns: tuple[str, ...]
    sees: tuple[str, ...] = ()

    def unit_of(self, path: str) -> str | None:
        """Folder of `path` that matches a pattern, or the layer's name if `path` itself does; None without a match."""
        parts = PurePosixPath(path).parts
        for pattern in self.patterns:
            wanted = PurePosixPath(pattern).parts
            is_folder = pattern.endswith("/")
            if len(parts) <= len(wanted) if is_folder else len(parts) != len(wanted):
                continue
            if all(map(fnmatchcase, parts, wanted)):
                return "/".join(parts[: len(wanted)]) if is_folder else self.name
        return None


def source_files(root: Path, places: Sequence[str]) -> list[str]:
    """Sorted source files among and under `places`."""
    found = []
    for place in places:
        candidates = [root / place] if (root / place).is_file() else (root / place).rglob("*")
        found += [path.relative_to(root).as_posix() for path in candidates if path.suffix in SOURCE_SUFFIXES]
    return sorted(found)


def includes(root: Path, files: Iterable[str], roots: Sequence[str]) -> tuple[list[Edge], list[str]]:
    """Edges of all includes of files in the tree, and findings for quoted includes of other files.

    roots: folders searched after that of the including file, as with -I.
    """
    edges, unresolved = [], []
    for file in (name for name in files if name.endswith(CPP_SUFFIXES)):
        for line, quote, name in _includes_of((root / file).read_text()):
            candidates = [(root / file).parent / name, *(root / folder / name for folder in roots)]
            target = next((path.resolve() for path in candidates if path.is_file()), None)
            if target is not None and target.is_relative_to(root.resolve()):
                edges.append(Edge(file, target.relative_to(root.resolve()).as_posix(), line))
            elif quote == '"':
                unresolved.append(f"{file}:{line} includes {name}, which is not in the tree")
    return edges, unresolved


def _includes_of(text: str) -> Iterator[tuple[int, str, str]]:
    for match in _INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start(2)) + 1, match[1], match[2]


def imports(root: Path, files: Iterable[str], roots: Sequence[str], facades: Sequence[str] = ()) -> list[Edge]:
    """Edges of all import statements, including those in functions and under TYPE_CHECKING.

    Args:
        roots: folders on Python's path. Outside packages, a file can also import its neighbours.
        facades: files that import their names on first use. They are no source, and a name imported from one counts
            as imported from where the facade has it.
    """
    homes = {
        (facade, name): target for facade in facades for name, target, _ in _imports_of(root, facade, roots) if target
    }
    edges = []
    for file in (name for name in files if name.endswith(".py") and name not in facades):
        for name, module, line in _imports_of(root, file, roots):
            target = homes.get((module, name)) if module in facades else module
            if target not in (None, file):
                edges.append(Edge(file, target, line))
    return edges


def _imports_of(root: Path, file: str, roots: Sequence[str]) -> Iterator[tuple[str, str | None, int]]:
    """Name, file of its module (None outside the tree) and line of everything that `file` imports."""
    if not (root / file).exists():
        return
    folder = PurePosixPath(file).parent
    own_folder = [] if (root / folder / "__init__.py").exists() else [str(folder)]
    for node in ast.walk(ast.parse((root / file).read_text())):
        for name, candidates in _imported_names(node, file):
            yield name, _first_module(root, candidates, [*roots, *own_folder]), node.lineno


def _imported_names(node: ast.AST, file: str) -> Iterator[tuple[str, list[str]]]:
    """Imported names, each with the modules it may be or come from, in that order; `/a/b` is a path from the root."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, [alias.name]) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            folder = PurePosixPath(file).parents[node.level - 1]
            base = "/" + "/".join([*folder.parts, *base.split(".")] if base else folder.parts)
        separator = "/" if node.level else "."
        yield from ((alias.name, [f"{base}{separator}{alias.name}", base]) for alias in node.names)


def _first_module(root: Path, candidates: Iterable[str], roots: Sequence[str]) -> str | None:
    for name in candidates:
        paths = [name[1:]] if name.startswith("/") else [f"{folder}/{name.replace('.', '/')}" for folder in roots]
        for path in paths:
            for suffix in (".py", "/__init__.py"):
                if (root / f"{path}{suffix}").is_file():
                    return PurePosixPath(f"{path}{suffix}").as_posix()
    return None


def crossings(files: Iterable[str], edges: Iterable[Edge], layers: Sequence[Layer]) -> list[str]:
    """Findings for files without a layer, and for edges that the layers forbid."""
    found = [f"{file} belongs to no layer" for file in files if _place(file, layers) is None]
    for edge in edges:
        source, target = _place(edge.source, layers), _place(edge.target, layers)
        if source is None or target is None or source[1] == target[1] or target[0].name in source[0].sees:
            continue
        found.append(f"{edge}: {source[0].name} may not see {target[0].name}")
    return found


def _place(path: str, layers: Sequence[Layer]) -> tuple[Layer, str] | None:
    """First layer of `path`, and its unit there."""
    return next(((layer, unit) for layer in layers if (unit := layer.unit_of(path))), None)


def upward_rows(layers: Sequence[Layer]) -> list[str]:
    """Findings for layers that see a layer listed after them; a table is listed from the bottom up."""
    below: set[str] = set()
    found = []
    for layer in layers:
        found += [f"{layer.name} sees {name}, which is not below it" for name in layer.sees if name not in below]
        below.add(layer.name)
    return found


def circles(edges: Iterable[Edge]) -> list[tuple[str, ...]]:
    """Circles of files, each starting at its alphabetically first file. Of overlapping circles one may be left out."""
    graph: dict[str, set[str]] = {}
    for edge in edges:
        graph.setdefault(edge.source, set()).add(edge.target)
    found = []
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            *circle, _ = reversed(error.args[1])  # each file depends on the next
            graph[circle[-1]].discard(circle[0])
            first = circle.index(min(circle))
            found.append((*circle[first:], *circle[:first]))
        else:
            return sorted(found)


def path_edits(root: Path, files: Iterable[str]) -> list[str]:
    """Findings for uses of sys.path in Python files."""
    found = []
    for file in (name for name in files if name.endswith(".py")):
        for node in ast.walk(ast.parse((root / file).read_text())):
            attribute = isinstance(node, ast.Attribute) and node.attr == "path" and _is_sys(node.value)
            imported = isinstance(node, ast.ImportFrom) and node.module == "sys"
            if attribute or (imported and any(alias.name == "path" for alias in node.names)):
                found.append(f"{file}:{node.lineno} uses sys.path")
    return found


def _is_sys(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "sys"


def long_files(root: Path, files: Iterable[str], limit: int, exempt: Sequence[str] = ()) -> list[str]:
    """Findings for files of more than `limit` lines."""
    lengths = {file: (root / file).read_text().count("\n") for file in files if file not in exempt}
    return [f"{file} has {lines} lines, expected at most {limit}" for file, lines in lengths.items() if lines > limit]


def assembly(root: Path, files: Iterable[str], folder: str) -> list[str]:
    """Findings for inline assembly in C++ files outside `folder`."""
    found = []
    for file in (name for name in files if name.endswith(CPP_SUFFIXES) and not name.startswith(folder)):
        if _ASSEMBLY.search(_SYMBOL_NAME.sub(")", _COMMENT.sub("", (root / file).read_text()))):
            found.append(f"{file} has inline assembly, expected in {folder} only")
    return found


def foreign_includes(root: Path, files: Iterable[str], library: str, owner: str) -> list[str]:
    """Findings for includes of the headers of `library` in files other than `owner`."""
    return [
        f"{file}:{line} includes {name}, expected in {owner} only"
        for file in files
        if file.endswith(CPP_SUFFIXES) and file != owner
        for line, _, name in _includes_of((root / file).read_text())
        if name.startswith(f"{library}/")
    ]
