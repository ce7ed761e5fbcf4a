"""The recipes of CONTRIBUTING.md: their files and commands exist, and a registry alone names what it registers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.repository import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
PACKAGE = REPOSITORY / "paddle_flashmask"
PADDLENLP = PACKAGE / "integrations" / "paddlenlp"

# Heading of a recipe -> the most bullets that it may have.
RECIPES = {
    "Adding a mask": 3,
    "Adding a head dim to sm90": 1,
    "Adding a model of PaddleNLP": 3,
    "Adding an architecture": 3,
    "Adding a training task": 4,
}


def section(heading: str) -> str:
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", TEXT, flags=re.M | re.S)
    assert match, heading
    return match[1]


def steps(heading: str) -> list[list[str]]:
    """Paths of each bullet: those before its colon."""
    bullets = re.findall(r"^\* (.*?):", section(heading), flags=re.M)
    return [re.findall(r"`([^`]+)`", bullet) for bullet in bullets]


def commands(heading: str) -> list[list[str]]:
    """Words of each command, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", section(heading), flags=re.M | re.S)
    return [line.split("#")[0].split() for block in blocks for line in block.splitlines()]


def existing(pattern: str) -> list[Path]:
    """Files that a path of a recipe stands for; <name> is any name."""
    return sorted(REPOSITORY.glob(re.sub(r"<\w+>", "*", pattern)))


@pytest.mark.parametrize("heading", RECIPES)
def test_files_of_a_recipe_exist(heading: str) -> None:
    assert 1 <= len(steps(heading)) <= RECIPES[heading]
    for paths in steps(heading):
        assert paths, heading
        for path in paths:
            assert existing(path), path


@pytest.mark.parametrize("heading", RECIPES)
def test_commands_of_a_recipe_exist(heading: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.M))
    assert commands(heading)
    for program, *words in commands(heading):
        if program == "make":
            assert set(words) <= targets, words
            continue
        assert program in ("python", "pytest"), program
        if words[0] == "-m":
            words = [words[1].replace(".", "/") + ".py"]
        for word in words if program == "pytest" else words[:1]:
            assert (REPOSITORY / word).exists(), word


def test_every_recipe_is_tested() -> None:
    assert set(re.findall(r"^## (Adding .*)$", TEXT, flags=re.M)) == set(RECIPES)


def test_every_layer_exists() -> None:
    for layer in re.findall(r"^\| (`.*?) \|", section("Layers"), flags=re.M):
        for path in re.findall(r"`(\w[\w./]*)`", layer.split(":")[0]):
            assert (REPOSITORY / path).exists(), path


def strings(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every whole string constant of the Python files in a folder."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def imported_submodules(folder: Path, package: str) -> Iterator[tuple[Path, str]]:
    """(file, module) for every import of a module inside `package`, such as "masks", from below it."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (match := re.search(rf"\b{package}\.(\w+)$", node.module or "")):
                yield path, match[1]


def task_modules() -> dict[str, Path]:
    """Key -> module of every task in the registry."""
    registry = ast.parse((PADDLENLP / "tasks" / "__init__.py").read_text())
    rows = next(
        node.value.generators[0].iter
        for node in registry.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "TASKS"
    )
    names = [row.id for row in rows.elts]
    module_of = {
        alias.name: node.module for node in registry.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return {module_of[name]: PADDLENLP / "tasks" / f"{module_of[name]}.py" for name in names}


def test_every_task_has_the_files_of_its_recipe() -> None:
    for key in task_modules():
        for paths in steps("Adding a training task"):
            for path in paths:
                assert (REPOSITORY / path.replace("<name>", key)).is_file(), path


def test_a_task_is_named_by_its_module_alone() -> None:
    tasks = task_modules()
    for folder in (PACKAGE / "integrations" / "paddlenlp", PACKAGE / "cli"):
        for path, text in strings(folder):
            assert text not in tasks or path == tasks[text], (path, text)
        for path, module in imported_submodules(folder, "tasks"):
            assert module not in tasks or path.parent == PADDLENLP / "tasks", (path, module)


def test_every_mask_has_a_module_a_picture_and_a_section() -> None:
    from paddle_flashmask.masks.registry import MASKS

    sections = set(re.findall(r"^## (\w+)$", (REPOSITORY / "docs" / "masks.md").read_text(), flags=re.M))
    for entry in MASKS:
        assert (PACKAGE / "masks" / f"{entry.name}.py").is_file(), entry.name
        assert (REPOSITORY / "docs" / "images" / f"{entry.name}.png").is_file(), entry.name
        assert entry.name in sections


def test_no_import_passes_by_the_registry_of_masks() -> None:
    modules = {path.stem for path in existing("paddle_flashmask/masks/<name>.py")} - {"registry", "column_mask"}
    for path, module in imported_submodules(PACKAGE, "masks"):
        assert module not in modules or module.startswith("_") or path.parent == PACKAGE / "masks", (path, module)


def test_every_model_has_a_case_and_a_row() -> None:
    from paddle_flashmask.integrations.paddlenlp.models.table import FAMILIES

    cases = (REPOSITORY / "tests" / "integrations" / "paddlenlp" / "model_cases.py").read_text()
    rows = re.findall(r"^\| ([\w-]+)", (REPOSITORY / "docs" / "models.md").read_text(), flags=re.M)
    documented = {row.replace("-", "").lower() for row in rows}
    for family in FAMILIES:
        assert family.name.lower() in documented, family.name
        if family.has_reward_model:  # else it does not run on the Paddle of the tests
            assert family.name in cases, family.name


def test_dispatch_alone_names_an_architecture() -> None:
    cuda = REPOSITORY / "csrc" / "cuda"
    dispatch = (cuda / "dispatch.cu").read_text()
    architectures = {path.name for path in existing("csrc/cuda/sm<XX>")}
    assert {"sm80", "sm90"} <= architectures
    for name in architectures:
        assert f"{name}::" in dispatch
        pattern = re.compile(rf'\b{name}::|#include "(?:[\w./]*/)?{name}/')
        for path in (REPOSITORY / "csrc").rglob("*.*"):
            if path.parent != cuda / name and path.name != "dispatch.cu":
                assert not pattern.search(path.read_text()), path
