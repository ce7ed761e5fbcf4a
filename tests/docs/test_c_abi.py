"""docs/c_abi.md: its C program compiles, runs and prints what the page shows, its ctypes code runs, and its tables name
every function, status and field of the header."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.library import Kernels, Params, Tensor
from support.repository import REPOSITORY

TEXT = (REPOSITORY / "docs" / "c_abi.md").read_text()
HEADER = (REPOSITORY / "csrc" / "flashmask.h").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)
    return found


def test_program_prints_what_the_page_shows(tmp_path: Path, kernels: Kernels) -> None:
    (tmp_path / "program.c").write_text(block("c"))
    (tmp_path / "csrc").symlink_to(REPOSITORY / "csrc")
    (tmp_path / "paddle_flashmask").mkdir()
    (tmp_path / "paddle_flashmask" / "_kernels.so").symlink_to(kernels.path)
    (command,) = re.findall(r"^`(gcc .*)`$", TEXT, flags=re.M)
    strict = command.replace("gcc ", f"{os.environ.get('CC', 'gcc')} -pedantic -Wall -Wextra -Werror ", 1)
    ran = subprocess.run(strict, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == block("text")


def test_ctypes_code_runs_without_paddle(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "paddle", None)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S):
        exec(compile(code, "docs/c_abi.md", "exec"), names)
    printed = capsys.readouterr().out.strip()
    assert f"print(error)  # {printed}\n" in TEXT
    assert names["out"].shape == (1, 5, 2, 4)
    assert [(name, kind) for name, kind in names["Params"]._fields_ if kind is not names["Tensor"]] == [
        (name, kind) for name, kind in Params._fields_ if kind is not Tensor
    ]


def test_tables_are_complete() -> None:
    rows = "".join(re.findall(r"^\| (`.*?) \|", TEXT, flags=re.M))
    listed = re.findall(r"`(\w+)`", rows)
    functions = re.findall(r"^PFM_EXPORT .*?(pfm_\w+)\(", HEADER, flags=re.M)
    statuses = re.findall(r"^  (PFM_\w+) = \d", HEADER, flags=re.M)
    assert sorted(listed) == sorted([*functions, *statuses, *(name for name, *_ in Params._fields_)])
    assert len(functions) == 11 and "eleven C functions" in TEXT
