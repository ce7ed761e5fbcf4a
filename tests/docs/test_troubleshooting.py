"""docs/troubleshooting.md: every message that it quotes is one that the sources write."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.repository import REPOSITORY

TEXT = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
QUOTED = re.findall(r"^\*\*`(.+?)`\*\*(.*)$", TEXT, flags=re.M)
MESSAGES = [message.removesuffix(" ...") for message, origin in QUOTED if "(from " not in origin]
FEWEST_LITERAL = 8
LITERAL_SHARE = 1 / 4  # of a message's characters that stand literally in its template, at least
ANY = None


def parts_of(node: ast.AST) -> tuple[str | None, ...] | None:
    """A text as literal parts, with ANY for each formatted value and the first text of a condition; otherwise None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (node.value,)
    if isinstance(node, ast.JoinedStr):
        return tuple(part.value if isinstance(part, ast.Constant) else ANY for part in node.values)
    if isinstance(node, ast.IfExp):
        return parts_of(node.body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = parts_of(node.left), parts_of(node.right)
        return left + right if left and right else None
    return None


def templates_of(path: Path) -> Iterator[tuple[str | None, ...]]:
    """The texts of a Python file."""
    return filter(None, map(parts_of, ast.walk(ast.parse(path.read_text()))))


@functools.cache
def templates() -> list[tuple[str | None, ...]]:
    files = [REPOSITORY / "setup.py", REPOSITORY / "tools" / "build_kernels.py"]
    files += sorted((REPOSITORY / "paddle_flashmask").rglob("*.py"))
    found = {template for path in files for template in templates_of(path)}
    module = (REPOSITORY / "csrc" / "python_module.cc").read_text()
    places = re.findall(r'py::value_error\("([^"]+)" \+ Place\([^"]*\) \+\s+"([^"]+)"\)', module)
    found |= {(before, ANY, after) for before, after in places}
    return [template for template in found if sum(len(part or "") for part in template) >= FEWEST_LITERAL]


def literal(message: str, template: Sequence[str | None]) -> int:
    """Characters of `message` that are literal in a template which begins with it, -1 if none does.

    The message may end within a literal part.
    """
    if not template:
        return -1 if message else 0
    first, *rest = template
    if first is ANY:
        return max(literal(message[skipped:], rest) for skipped in range(len(message) + 1))
    if message and first.startswith(message):
        return len(message)
    if not message.startswith(first):
        return -1
    following = literal(message[len(first) :], rest)
    return -1 if following < 0 else len(first) + following


def is_written(message: str) -> bool:
    fewest = max(FEWEST_LITERAL, LITERAL_SHARE * len(message))
    return any(literal(message, template) >= fewest for template in templates())


def test_the_page_has_messages() -> None:
    assert len(MESSAGES) > 60
    assert len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_in_the_sources(message: str) -> None:
    assert is_written(message)


@pytest.mark.parametrize(
    "message",
    [
        "startend_row_indices has 1 numbers per key, expected 2 or 4 with causal=False",
        "train.json:3: the chat template writes no last token after an answer",
        "a message that nothing writes",
    ],
)
def test_other_messages_are_not(message: str) -> None:
    assert not is_written(message)
