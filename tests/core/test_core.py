"""csrc/core as plain C++, exhaustively at small sizes, against brute force and published vectors."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.repository import REPOSITORY
from support.specification import dropout_keep

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def core_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("core") / "core_test"
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    checks = ["-fsanitize=undefined", "-fno-sanitize-recover"]
    sources = [str(source) for source in sorted(HERE.glob("*.cc"))]
    command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O1", *warnings, *checks, f"-I{REPOSITORY / 'csrc'}"]
    build = subprocess.run([*command, f"-I{HERE}", *sources, "-o", str(program)], capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    return program


@pytest.mark.parametrize("group", ["columns", "tiles", "dropout", "order"])
def test_group(core_test: Path, group: str) -> None:
    done = subprocess.run([str(core_test), group], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("dropout", "seed", "offset", "head", "rows", "cols"),
    [
        (0.5, 0, 0, 0, 32, 32),
        (0.1, 0x0123456789ABCDEF, 0xFEDCBA9876543210, 3, 50, 70),
        (0.9, 2**64 - 1, 2**32, 1, 17, 33),
    ],
)
def test_numpy_specification_has_the_same_stream(core_test, dropout, seed, offset, head, rows, cols) -> None:
    command = [str(core_test), "keeps", *map(str, (dropout, seed, offset, head, rows, cols))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    kept = np.array([[digit == "1" for digit in line] for line in printed])
    expected = dropout_keep(dropout, seed, offset, batch=1, heads_q=head + 1, seqlen_q=rows, seqlen_k=cols)[0, head]
    assert np.array_equal(kept, expected)
