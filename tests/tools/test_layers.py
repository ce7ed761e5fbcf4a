"""The layers of CONTRIBUTING.md: no include or import upwards, and no circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from support.specification import REPOSITORY

CSRC = REPOSITORY / "csrc"
PACKAGE = REPOSITORY / "paddle_flashmask"

# Folder of csrc -> folders whose headers it may include; csrc/flashmask.h is open to all but csrc/core.
INCLUDES = {
    "core": set(),
    "cpu": {"core"},
    "cuda/ptx": {"core"},
    "cuda/common": {"core", "cuda/ptx"},
    "cuda/backward": {"core", "cuda/ptx", "cuda/common"},
    "cuda/sm80": {"core", "cuda/ptx", "cuda/common", "cuda/backward"},
    "cuda/sm90": {"core", "cuda/ptx", "cuda/common", "cuda/backward"},
}

# Part of the package -> parts that it may import, at the top of a file or inside a function.
IMPORTS = {
    "reference": set(),
    "masks": set(),
    "packing": {"masks"},
    "functional": {"_arguments", "_library"},
}


def includes(path: Path) -> Iterator[Path]:
    """Headers of csrc that a file includes."""
    for name in re.findall(r'^#include "([^"]+)"', path.read_text(), flags=re.M):
        beside, below = (path.parent / name).resolve(), (CSRC / name).resolve()
        target = beside if beside.exists() else below
        if target.is_relative_to(CSRC):
            yield target


def sources() -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.suffix in (".h", ".cc", ".cu"))


def test_no_include_upwards() -> None:
    folders = {str(path.parent.relative_to(CSRC)) for path in sources()}
    assert folders - {".", "cuda"} == set(INCLUDES)
    for path in sources():
        folder = str(path.parent.relative_to(CSRC))
        for target in includes(path) if folder in INCLUDES else ():
            into = str(target.parent.relative_to(CSRC))
            assert into in INCLUDES[folder] | {folder} or target == CSRC / "flashmask.h", f"{path} includes {target}"


def test_no_circle_of_includes() -> None:
    TopologicalSorter({path: set(includes(path)) for path in sources()}).prepare()


def imports(path: Path) -> Iterator[str]:
    """Parts of the package that a file imports: names right below paddle_flashmask."""
    package = ["paddle_flashmask", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "paddle_flashmask" else [module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "paddle_flashmask" and len(parts) > 1:
                yield parts[1]


def test_no_import_upwards() -> None:
    for part, allowed in IMPORTS.items():
        files = (PACKAGE / part).rglob("*.py") if (PACKAGE / part).is_dir() else [PACKAGE / f"{part}.py"]
        for path in files:
            for name in imports(path):
                own_or_built = {part, "_core", "_ops", "_build_info"}
                assert name in allowed | own_or_built, f"{path} imports paddle_flashmask.{name}"
