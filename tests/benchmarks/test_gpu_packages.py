"""Packages of peers that import, are absent, or raise while they are imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.gpu import flash_attention3
from benchmarks.gpu.packages import import_first
from tools.gpu_check.outcome import NotRun


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "peer_that_imports.py").write_text("")
    (tmp_path / "peer_without_a_driver.py").write_text("raise RuntimeError('found no NVIDIA driver')")
    (tmp_path / "peer_without_a_library.py").write_text("raise ImportError('libc10_cuda.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)


def test_the_first_that_can_be_imported_is_taken() -> None:
    names = ("peer_without_a_driver", "peer_that_imports", "peer_without_a_library")
    assert import_first(*names).__name__ == "peer_that_imports"


def test_the_reason_of_each_package_is_named() -> None:
    """A package that is installed but lacks a library must not read as one that is not installed."""
    with pytest.raises(NotRun) as refused:
        import_first("peer_without_a_driver", "peer_without_a_library", "peer_that_nobody_installed")
    for reason in ("found no NVIDIA driver", "libc10_cuda.so", "No module named 'peer_that_nobody_installed'"):
        assert reason in str(refused.value)


def test_flash_attention_that_is_absent_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for modules in (flash_attention3.MODULES, flash_attention3.MODULES_4):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(NotRun, match=modules[0]):
            import_first(*modules)
