"""Loading of the operator library, and the errors that replace an abort of the process."""

from __future__ import annotations

import sys

import paddle
import pytest

from paddle_flashmask import _library


def test_loading_twice_is_harmless() -> None:
    _library.load()
    _library.load()


def test_another_paddle_version(monkeypatch) -> None:
    monkeypatch.setattr(paddle.version, "full_version", "2.9.9")
    with pytest.raises(ImportError, match=r"built for Paddle \S+, but Paddle 2.9.9 is installed.*rebuild with `pip"):
        _library.load()


def test_not_built(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle_flashmask._build_info", None)
    monkeypatch.delattr("paddle_flashmask._build_info", raising=False)
    with pytest.raises(ImportError, match="paddle_flashmask is not built: run `pip install --no-build-isolation"):
        _library.load()


def test_no_paddle(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle", None)
    with pytest.raises(ImportError, match="needs PaddlePaddle: install paddlepaddle"):
        _library.load()


def test_operator_of_another_file(monkeypatch, tmp_path) -> None:
    """Paddle aborts the process if a second file registers the same operator, so loading must fail before that."""
    _library.load()
    monkeypatch.setattr(_library, "LIBRARY", tmp_path / "_ops.so")
    with pytest.raises(ImportError, match="another library has already registered the Paddle operator"):
        _library.load()
