"""The repository's root, and the environment for subprocesses that import what the tests import."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def python_environment() -> dict[str, str]:
    """This process's environment with `pythonpath` of pyproject.toml prepended to PYTHONPATH."""
    given = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests"), *([given] if given else [])])
    return {**os.environ, "PYTHONPATH": path}
