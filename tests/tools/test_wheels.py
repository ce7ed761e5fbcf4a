"""tools/wheels and tools/check_install: choices that need no build, and what README.md prints about both."""

from __future__ import annotations

import re
from pathlib import Path

import paddle
import pytest
from support.repository import REPOSITORY

from tools import check_install, wheels
from tools.build_kernels import BuildError, CudaToolkit


def fake_python(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / name
    python.write_text(f"#!/bin/sh\necho {version}\n" if version else "#!/bin/sh\nexit 127\n")
    python.chmod(0o755)
    return python


def test_pythons_are_found_in_path_and_among_pyenvs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    pyenv = tmp_path / ".pyenv" / "versions"
    in_path = fake_python(tmp_path / "bin", "python3.11", "3.11")
    fake_python(pyenv / "3.11.7" / "bin", "python", "3.11")
    fake_python(tmp_path / "bin", "python3.12", "")  # pyenv's shim of a version that is not selected
    in_pyenv = fake_python(pyenv / "3.12.1" / "bin", "python", "3.12")
    assert wheels.find_pythons() == {"3.11": str(in_path), "3.12": str(in_pyenv)}


def test_the_local_version_names_the_cuda_release() -> None:
    assert wheels.local_version(None) == ""
    assert wheels.local_version(CudaToolkit(Path("nvcc"), "13.0", Path("libcudart_static.a"))) == "+cu130"


def test_the_installed_paddle_is_used_where_its_version_is_wanted() -> None:
    assert wheels.paddle_folder(paddle.version.full_version) == Path(paddle.__file__).parent


def test_a_wheel_with_an_unknown_library_is_refused(tmp_path, monkeypatch) -> None:
    fake_python(tmp_path, "python", "cannot repair: libstrange.so")
    (tmp_path / "python").write_text("#!/bin/sh\necho libstrange.so; exit 1\n")
    (tmp_path / "x.whl").touch()
    with pytest.raises(BuildError, match="(?s)auditwheel refused x.whl.*libstrange.so"):
        wheels.add_tag(tmp_path / "python", tmp_path / "x.whl", tmp_path / "dist")


def test_the_readme_prints_what_the_wheels_are_for() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert f"operator for Paddle {' and for '.join(wheels.PADDLES)}" in text
    version = re.search(r'^version = "(.*)"$', (REPOSITORY / "pyproject.toml").read_text(), flags=re.M)[1]
    assert set(re.findall(r"paddle_flashmask-(.*?)-cp", text)) == {version}
    assert f"`{version}+cu130`" in text


def test_the_readme_has_every_block_that_is_checked() -> None:
    wheel, training = check_install.install_blocks("From a wheel")
    assert len(wheel) == 2 and training[0].endswith('.whl[paddlenlp]"')
    source, paddlenlp, paddleformers = check_install.install_blocks("From source")
    assert source[-1] == "pip install --no-build-isolation ."
    assert "[paddlenlp]" in paddlenlp[-1] and "[paddleformers]" in paddleformers[-1]
    assert "flashmask_attention" in check_install.readme_example()
