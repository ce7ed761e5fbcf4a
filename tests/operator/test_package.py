"""The package as a whole: imports, public names, console script."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import paddle_flashmask
from paddle_flashmask import _info, _library, cli


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return set(result.stdout.split())


HEAVY = {"paddle", "paddlenlp", "matplotlib", "torch"}


@pytest.mark.parametrize("module", ["paddle_flashmask", "paddle_flashmask.masks", "paddle_flashmask.packing"])
def test_data_loader_modules_import_no_framework(module: str) -> None:
    assert not HEAVY & modules_after(f"import {module}")


def test_the_operator_imports_paddle_alone() -> None:
    loaded = modules_after("from paddle_flashmask import flashmask_attention")
    assert HEAVY & loaded == {"paddle"}


def test_every_public_name_is_there() -> None:
    for name in paddle_flashmask.__all__:
        assert getattr(paddle_flashmask, name) is not None
    assert set(paddle_flashmask.__all__) <= set(dir(paddle_flashmask))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        paddle_flashmask.no_such_name  # noqa: B018


def test_help_lists_the_subcommands_without_importing_them() -> None:
    loaded = modules_after("from paddle_flashmask.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    assert not HEAVY & loaded
    text = CliRunner().invoke(cli.main, ["--help"]).output
    assert all(name in text for name in cli.SUBCOMMANDS)


def test_unknown_subcommand() -> None:
    result = CliRunner().invoke(cli.main, ["fly"])
    assert result.exit_code == 2 and "No such command 'fly'" in result.output


def test_the_driver_that_is_needed() -> None:
    line = "Cuda compilation tools, release {}, V{}.1"
    assert _info.needed_driver(line.format("12.6", "12.6")).startswith("R525 or later (CUDA 12)")
    assert _info.needed_driver(line.format("13.0", "13.0")).startswith("R580 or later (CUDA 13)")
    assert "release 14.0" in _info.needed_driver(line.format("14.0", "14.0"))


def test_info() -> None:
    result = CliRunner().invoke(cli.main, ["info"])
    assert result.exit_code == 0, result.output
    lines = dict(line.split("  ", 1) for line in result.output.splitlines())
    found = {label.strip(): text.strip() for label, text in lines.items()}
    assert found["operator"] == "loaded"
    assert found["built for Paddle"] == found["Paddle found"]
    architectures = _library.cuda_architectures()
    assert found["CUDA kernels"].startswith(architectures or "none in this build")
    assert found["GPU"] and (architectures or found["GPU"] == "not used: there are no CUDA kernels in this build")
    assert bool(architectures) == ("NVIDIA driver needed" in found)
    assert "portable" in found["CPU kernels"] and int(found["CPU threads"].split()[0]) >= 1


def test_info_says_what_does_not_fit(monkeypatch) -> None:
    from paddle_flashmask import _build_info

    monkeypatch.setattr(_build_info, "PADDLE_VERSION", "2.9.9")
    assert _info.collect()["operator"].startswith("not loaded: paddle_flashmask was built for Paddle 2.9.9")
    monkeypatch.setitem(sys.modules, "paddle_flashmask._build_info", None)
    monkeypatch.delattr(paddle_flashmask, "_build_info")
    assert _info.collect()["built"].startswith("no: paddle_flashmask is not built in")
