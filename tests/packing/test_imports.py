"""Imports of masks and packing: no framework, no upper layer, and no circle in the whole package."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from support.specification import REPOSITORY

PACKAGE = REPOSITORY / "paddle_flashmask"


def test_packing_imports_neither_paddle_nor_paddlenlp():
    code = (
        "import sys, paddle_flashmask.packing;"
        "print([m for m in ('paddle', 'paddlenlp', 'torch', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imports() -> dict[str, set[str]]:
    """Modules of the package that each module imports, at the top or inside a function.

    The package itself is left out: it loads its names on first use.
    """
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    del paths[PACKAGE.name]
    graph = {}
    for module, path in paths.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
                source = ".".join([*parents, *filter(None, [node.module])])
                names = {f"{source}.{alias.name}" for alias in node.names}
                found |= names & set(paths) or {source}
        graph[module] = found & set(paths) - {module}
    return graph


def test_there_is_no_circle():
    tuple(TopologicalSorter(imports()).static_order())


def test_masks_and_packing_import_no_upper_layer():
    for module, found in imports().items():
        for layer, below in (("masks", ("masks",)), ("packing", ("packing", "masks"))):
            if module.startswith(f"paddle_flashmask.{layer}"):
                allowed = tuple(f"paddle_flashmask.{name}" for name in below)
                assert all(name.startswith(allowed) for name in found), module
