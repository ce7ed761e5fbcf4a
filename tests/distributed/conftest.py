"""Options of the tests of several processes."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ranks", type=int, default=2, help="processes that share a sequence (test_processes.py)")
