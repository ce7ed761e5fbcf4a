"""The registry of masks: complete, and the only place that lists the masks."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from mask_meanings import MEANINGS
from support.specification import REPOSITORY

from paddle_flashmask import masks
from paddle_flashmask.masks import registry
from paddle_flashmask.masks.registry import MASKS, MaskEntry

PACKAGE = REPOSITORY / "paddle_flashmask"
NAMES = {entry.name for entry in MASKS}
OTHER_NAMES = {
    "ColumnMask",
    "MaskStatistics",
    "block_diffusion_order",
    "depth_first_order",
    "hash_bucket_queries",
    "row_order",
}
# Code that names a selection of the masks: the benchmarked, the packed, and the shared bounds.
SELECTIONS = {
    PACKAGE / "cli" / "bench.py",
    PACKAGE / "packing" / "attention.py",
    PACKAGE / "packing" / "answers.py",
    PACKAGE / "masks" / "_columns.py",
}


def test_every_row_is_public_and_has_a_meaning() -> None:
    assert set(registry.__all__) == NAMES == set(MEANINGS)
    assert len(MASKS) == len(NAMES)
    assert set(masks.__all__) == NAMES | OTHER_NAMES
    for entry in MASKS:
        assert getattr(masks, entry.name) is entry.builder


@pytest.mark.parametrize("entry", MASKS, ids=lambda entry: entry.name)
def test_a_row_fits_its_builder(entry: MaskEntry) -> None:
    assert entry.builder.__module__ == f"paddle_flashmask.masks.{entry.name}"
    documentation = " ".join(inspect.getdoc(entry.builder).split())
    assert entry.source in documentation
    for part in ("Args:", "Returns:", "Raises:"):
        assert part in documentation
    parameters = inspect.signature(entry.command.builder).parameters
    assert {option.parameter for option in entry.options} <= set(parameters)
    assert {option.parameter for option in entry.options if entry.is_required(option)} == {
        name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty
    }
    means, _ = MEANINGS[entry.name]
    assert set(inspect.signature(means).parameters) <= set(inspect.signature(entry.builder).parameters)


def words_of(path: Path) -> Iterator[str]:
    """Yield names, attributes and string constants of a Python file."""
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("id", "attr", "value", "name"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                yield word


def test_no_other_file_lists_the_masks() -> None:
    """Names that are also plain words (`full`, `document`) are not searched for."""
    distinctive = {name for name in NAMES if "_" in name}
    own_modules = {PACKAGE / "masks" / f"{name}.py" for name in NAMES}
    files = [*(PACKAGE / "masks").rglob("*.py"), *(PACKAGE / "packing").rglob("*.py"), *(PACKAGE / "cli").rglob("*.py")]
    files += [REPOSITORY / "docs" / "make_mask_sections.py"]
    found = {
        path.relative_to(REPOSITORY): named
        for path in files
        if path not in own_modules | SELECTIONS | {PACKAGE / "masks" / "registry.py"}
        and (named := distinctive & set(words_of(path)))
    }
    assert not found
