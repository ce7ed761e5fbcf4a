"""tools/wheels and tools/check_install: choices that need no build, and what README.md prints about both."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import paddle
import pytest
from support.repository import REPOSITORY

from tools import check_install, wheels
from tools.build_kernels import BuildError, CudaToolkit


def fake_python(folder: Path, name: str, version: str, ensurepip: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / name
    refusal = "" if ensurepip else 'case "$2" in *ensurepip*) exit 1;; esac\n'
    python.write_text(f"#!/bin/sh\n{refusal}echo {version}\n" if version else "#!/bin/sh\nexit 127\n")
    python.chmod(0o755)
    return python


def test_pythons_are_found_in_path_and_among_pyenvs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    pyenv = tmp_path / ".pyenv" / "versions"
    in_path = fake_python(tmp_path / "bin", "python3.11", "3.11")
    fake_python(pyenv / "3.11.7" / "bin", "python", "3.11")
    fake_python(tmp_path / "bin", "python3.12", "")  # pyenv's shim of a version that is not selected
    fake_python(tmp_path / "bin", "python3.10", "3.10", ensurepip=False)  # Debian's without python3-venv
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


def test_paddleformers_is_checked_where_it_can_be_installed() -> None:
    planned = check_install.planned_checks(["source", "paddleformers"], ["3.10", "3.12"])
    assert planned == [("source", "3.10"), ("source", "3.12"), ("paddleformers", "3.12")]


def test_the_result_names_the_pythons_that_were_checked_and_those_that_were_not_found(monkeypatch, capsys) -> None:
    monkeypatch.setattr(check_install, "find_pythons", lambda: {"3.10": "a", "3.12": "b"})
    monkeypatch.setattr(check_install, "run_check", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["check_install", "source", "paddleformers"])
    check_install.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "source with Python 3.10, 3.12; paddleformers with Python 3.12; NOT FOUND: Python 3.11"


def test_a_failed_check_ends_the_others_first_and_is_shown(monkeypatch) -> None:
    done = []

    def run_check(check: str, python: str, *_) -> None:
        if python == "a":
            raise check_install.CheckError(f"{check} failed")
        done.append(python)

    monkeypatch.setattr(check_install, "find_pythons", lambda: {"3.10": "a", "3.11": "b", "3.12": "c"})
    monkeypatch.setattr(check_install, "run_check", run_check)
    monkeypatch.setattr("sys.argv", ["check_install", "source"])
    with pytest.raises(SystemExit, match="source failed"):
        check_install.main()
    assert sorted(done) == ["b", "c"]


def test_a_clone_takes_the_compiled_objects_over(tmp_path, monkeypatch) -> None:
    root = tmp_path / "checkout"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, "commit", "-q", "--allow-empty", "-m", "empty"], check=True)
    objects = root / "build" / "objects"
    objects.mkdir(parents=True)
    for name in ("csrc-capi.cc-0.o", "csrc-cuda-dispatch.cu-0.o"):
        (objects / name).touch()
    monkeypatch.setattr(check_install, "ROOT", root)
    monkeypatch.setattr(check_install, "OBJECTS", objects)
    clone = check_install.clone_checkout(tmp_path / "clone")
    assert [path.name for path in (clone / "build" / "objects").iterdir()] == ["csrc-capi.cc-0.o"]
