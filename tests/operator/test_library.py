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


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """A package folder with libraries for two Paddle versions, as in a wheel."""
    (tmp_path / "_ops").mkdir()
    for version in ("3.2.2", "3.3.1"):
        (tmp_path / "_ops" / f"{version}.so").touch()
    monkeypatch.setattr(_library, "PACKAGE", tmp_path)
    return tmp_path


def test_a_wheel_has_a_library_for_each_paddle_version(wheel) -> None:
    for version in ("3.2.2", "3.3.1"):
        assert _library.find_library(version) == wheel / "_ops" / f"{version}.so"
    with pytest.raises(ImportError, match=r"built for Paddle 3.2.2 and 3.3.1, but Paddle 3.3.0 is installed"):
        _library.find_library("3.3.0")


def test_a_wheel_without_paddle_names_the_versions(wheel, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle", None)
    with pytest.raises(ImportError, match=r"paddlepaddle==VERSION`.*built for: 3.2.2 or 3.3.1"):
        _library.load()


def test_not_built(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle_flashmask._build_info", None)
    monkeypatch.delattr("paddle_flashmask._build_info", raising=False)
    with pytest.raises(ImportError, match="is not built in .*, start Python outside of the source folder"):
        _library.load()


def test_no_paddle(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "paddle", None)
    with pytest.raises(ImportError, match="needs PaddlePaddle, which is not installed: `pip install paddlepaddle=="):
        _library.load()


def test_operator_of_another_file(monkeypatch, tmp_path) -> None:
    """Paddle aborts the process if a second file registers the same operator, so loading must fail before that."""
    _library.load()
    monkeypatch.setattr(_library, "libraries", lambda: {paddle.version.full_version: tmp_path / "_ops.so"})
    with pytest.raises(ImportError, match="another library has already registered the Paddle operator"):
        _library.load()
