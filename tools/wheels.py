"""Wheels: one for each Python, with the operator for several versions of Paddle in it.

    python -m tools.wheels dist                                        CPU wheels, for every Python that is found
    python -m tools.wheels dist --cuda                                 with CUDA kernels, as version X.Y.Z+cu130
    python -m tools.wheels dist --python python3.11 --paddle 3.3.1

The wheels with CUDA kernels have the same name and a local version with their CUDA release, so that pip replaces one by
the other, and both are never installed together.

The tag is the oldest manylinux that the symbols allow, by auditwheel. Two libraries stay outside, because import paddle
has loaded them before: libpaddle.so, and libgomp.so.1, which Paddle itself takes from the system; a copy in the wheel
would be a second OpenMP runtime with threads of its own. libstdc++ and glibc are the system's, as manylinux wants it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tools import build_kernels
from tools.build_kernels import ROOT, BuildError

SCRATCH = ROOT / "build" / "wheels"
REQUIREMENTS = ROOT / "requirements"
PYTHONS = ("3.10", "3.11", "3.12")
PADDLES = ("3.2.2", "3.3.1")
OUTSIDE = ("libpaddle.so", "libgomp.so.1")


def python_version(python: str) -> str | None:
    """Major and minor version of an interpreter; None if it does not start."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        ran = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def makes_environments(python: str) -> bool:
    """Whether the interpreter has ensurepip, which Debian packs apart, in python3-venv."""
    return subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode == 0


def find_pythons() -> dict[str, str]:
    """Find an interpreter for each of PYTHONS in PATH or among pyenv's versions. Missing ones are left out.

    So are those that make no virtual environments.
    """
    found = {}
    for version in PYTHONS:
        pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
        for candidate in (shutil.which(f"python{version}"), *map(str, reversed(pyenv))):
            if candidate and python_version(candidate) == version and makes_environments(candidate):
                found[version] = candidate
                break
    return found


def make_environment(python: str, folder: Path, requirements: list[str]) -> Path:
    """Make a virtual environment with these arguments of pip install, unless it is there; return its Python."""
    made = folder / "bin" / "python"
    done = folder / "installed.txt"
    wanted = "\n".join([python, *requirements])
    if not (done.exists() and done.read_text() == wanted):
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        pip_install(made, requirements)
        done.write_text(wanted)
    return made


def pip_install(python: Path, arguments: list[str]) -> None:
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "-q", *arguments], check=True)


def paddle_folder(version: str) -> Path:
    """Folder with headers and library of a Paddle: that of the running Python, or unpacked from its wheel."""
    spec = importlib.util.find_spec("paddle")
    if spec and spec.origin:
        installed = Path(spec.origin).parent
        text = (installed / "version" / "__init__.py").read_text()
        if re.search(rf"^full_version *= '{re.escape(version)}'$", text, flags=re.M):
            return installed
    folder = SCRATCH / f"paddle-{version}"
    if folder.exists():
        return folder / "paddle"
    with tempfile.TemporaryDirectory() as downloads:
        # The headers do not depend on the Python version.
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", "3.11", "--dest", downloads, f"paddlepaddle=={version}"]
        subprocess.run(command, check=True)
        (wheel,) = Path(downloads).glob("*.whl")
        unpacking = folder.with_suffix(".unpacking")
        shutil.rmtree(unpacking, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            wanted = re.compile(r"paddle/(include/.*|version/.*|base/libpaddle\.so)")
            archive.extractall(unpacking, [name for name in archive.namelist() if wanted.fullmatch(name)])
    unpacking.rename(folder)
    return folder / "paddle"


def local_version(cuda: build_kernels.CudaToolkit | None) -> str:
    """Return the part of the version that names the CUDA release, as "+cu130"; "" for the CPU."""
    return "+cu" + cuda.version.replace(".", "") if cuda else ""


def build_wheel(python: str, paddles: list[Path], cuda: build_kernels.CudaToolkit | None, output: Path) -> Path:
    """Build the wheel for one Python, give it its manylinux tag, and return it."""
    version = python_version(python)
    requirements = ["-c", str(REQUIREMENTS / "constraints.txt"), "-r", str(REQUIREMENTS / "wheels.txt")]
    builder = make_environment(python, SCRATCH / f"python-{version}", requirements)
    with tempfile.TemporaryDirectory() as scratch:
        # Its own build folder: that of an installation from source holds an _ops.so.
        config = Path(scratch) / "build.cfg"
        config.write_text(
            f"[build]\nbuild_base = {scratch}/build\n"
            f"[egg_info]\negg_base = {scratch}\ntag_build = {local_version(cuda)}\n"
        )
        environment = {
            **os.environ,
            "DIST_EXTRA_CONFIG": str(config),
            "PFM_CUDA": "1" if cuda else "0",
            "PFM_PADDLES": os.pathsep.join(map(str, paddles)),
        }
        if cuda:
            environment["CUDA_HOME"] = str(cuda.nvcc.parent.parent)
        code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
        subprocess.run([builder, "-c", code, scratch], cwd=ROOT, env=environment, check=True)
        (plain,) = Path(scratch).glob("*.whl")
        return add_tag(builder, plain, output)


def add_tag(builder: Path, wheel: Path, output: Path) -> Path:
    """Write the wheel to `output` with the manylinux tag that its symbols allow."""
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        outside = [part for name in OUTSIDE for part in ("--exclude", name)]
        command = [builder, "-m", "auditwheel", "repair", *outside, "--wheel-dir", folder, str(wheel)]
        path = f"{builder.parent}{os.pathsep}{os.environ['PATH']}"
        ran = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        if ran.returncode != 0:
            raise BuildError(f"auditwheel refused {wheel.name}:\n{ran.stdout}{ran.stderr}")
        (tagged,) = Path(folder).glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(tagged, output / tagged.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--python", action="append", help=f"an interpreter; default: {', '.join(PYTHONS)}, if found")
    parser.add_argument("--paddle", action="append", help=f"a version of Paddle; default: {' and '.join(PADDLES)}")
    parser.add_argument("--cuda", action="store_true", help="with CUDA kernels; an error where nvcc is missing")
    arguments = parser.parse_args()
    pythons = arguments.python or list(find_pythons().values())
    if not pythons:
        raise BuildError(f"no Python {', '.join(PYTHONS)} was found: name one with --python")
    cuda = build_kernels.wanted_cuda("1" if arguments.cuda else "0")
    paddles = [paddle_folder(version) for version in arguments.paddle or PADDLES]
    for python in pythons:
        print(f"wheel: {build_wheel(python, paddles, cuda, arguments.output.resolve())}", flush=True)


if __name__ == "__main__":
    main()
