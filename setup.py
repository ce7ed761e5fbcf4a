"""Build of the three binaries of the package:

_kernels.so   attention kernels with the C ABI of csrc/flashmask.h; depends on neither Paddle nor Python.
_ops.so       Paddle operator over that C ABI; the only binary that depends on the Paddle version.
_core.*.so    Python module (pybind11) over the mask arithmetic of csrc/core.

PFM_PADDLES names folders of Paddle, separated by ":": the build then has an operator library for each of them,
_ops/<Paddle version>.so, instead of one for the installed Paddle. tools/wheels.py sets it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "paddle_flashmask"
OLDEST_PADDLE = 3
WHEEL_FOLDERS = os.environ.get("PFM_PADDLES", "")


def load_by_path(name: str, path: Path) -> ModuleType:
    """Import one file as module `name`. A build front end leaves the source tree off Python's path."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module


kernels = load_by_path("build_kernels", ROOT / "tools" / "build_kernels.py")


@dataclass(frozen=True)
class Paddle:
    """The installed Paddle. `cuda`: the CUDA version that it is built for; "": a CPU build."""

    version: str
    cuda: str
    folder: Path


def find_paddles() -> list[Paddle]:
    """Find the folders of PFM_PADDLES, or that of the installed Paddle."""
    if WHEEL_FOLDERS:
        return [read_paddle(Path(folder).resolve()) for folder in WHEEL_FOLDERS.split(os.pathsep)]
    spec = importlib.util.find_spec("paddle")
    if spec is None or spec.origin is None:
        raise kernels.BuildError(
            f"paddle is not importable by {sys.executable}. The operator is compiled against the Paddle it will run "
            "in: first `pip install paddlepaddle` and `pip install setuptools wheel pybind11`, then install this "
            "package with `pip install --no-build-isolation .`"
        )
    return [read_paddle(Path(spec.origin).parent)]


def read_paddle(folder: Path) -> Paddle:
    """Read the version of a Paddle without importing it, which takes seconds."""
    version = load_by_path("paddle_version", folder / "version" / "__init__.py")
    # Builds of the development branch are 0.0.0.
    if 0 < int(version.major) < OLDEST_PADDLE:
        raise kernels.BuildError(
            f"Paddle {version.full_version} is installed, expected {OLDEST_PADDLE}.0 or later: the C++ interface of "
            "custom operators differs before"
        )
    cuda = version.cuda()  # "False" for a CPU build
    return Paddle(version.full_version, cuda if re.match(r"\d", str(cuda)) else "", folder)


def find_pybind11() -> str:
    try:
        import pybind11
    except ImportError:
        raise kernels.BuildError("pybind11 is not importable: `pip install pybind11` first") from None
    return pybind11.get_include()


class BuildBinaries(build_ext):
    """Compile and link steps of the binaries, which differ in flags per file; _ops.so links to _kernels.so."""

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.split(".")[-1] == "_core":
            return super().get_ext_filename(fullname)
        return os.path.join(*fullname.split(".")) + ".so"  # plain shared libraries have no Python tag

    def build_extensions(self) -> None:
        self.compiler = kernels.find_compiler()
        self.paddles = find_paddles()
        self.cuda = kernels.wanted_cuda(os.environ.get("PFM_CUDA", "auto"), self.paddles[0].cuda)
        self.archs = kernels.wanted_archs(os.environ.get("PFM_CUDA_ARCHS", ""), self.cuda)
        self.cache = kernels.ObjectCache()
        units = {extension.name: self._units(extension) for extension in self.extensions}
        objects = iter(self.cache.compile_all([unit for group in units.values() for unit in group]))
        for extension in self.extensions:
            self._link(extension, [next(objects) for _ in units[extension.name]])
        self._write_build_info()

    def _units(self, extension: Extension) -> list[kernels.Unit]:
        if extension.name.endswith("_kernels"):
            units = kernels.cpu_units(self.compiler)
            if self.cuda is None:
                return units + kernels.no_cuda_units(self.compiler)
            return units + kernels.cuda_units(self.cuda, self.compiler, self.archs)
        if extension.name.endswith("_ops"):
            return [self._operator_unit(paddle) for paddle in self.paddles]
        flags = ["-isystem", find_pybind11(), "-isystem", sysconfig.get_paths()["include"]]
        command = (self.compiler, *kernels.COMMON_FLAGS, *flags)
        return [kernels.Unit(ROOT / name, command) for name in extension.sources]

    def _operator_unit(self, paddle: Paddle) -> kernels.Unit:
        include = paddle.folder / "include"
        # Paddle's headers count as system headers, so that warnings apply to this project's code only.
        flags = ["-D_GLIBCXX_USE_CXX11_ABI=1", "-DPADDLE_WITH_CUSTOM_KERNEL", "-isystem", str(include)]
        flags += ["-isystem", str(include / "third_party")]
        command = (self.compiler, *kernels.COMMON_FLAGS, *flags)
        return kernels.Unit(ROOT / "csrc" / "paddle_op.cc", command, paddle.version)

    def _link(self, extension: Extension, objects: list[Path]) -> None:
        target = Path(self.get_ext_fullpath(extension.name)).resolve()
        if extension.name.endswith("_kernels"):
            kernels.link(kernels.kernel_link_command(self.compiler, objects, self.cuda), target)
            return
        if not extension.name.endswith("_ops"):
            kernels.link([*self._link_command(), *map(str, objects)], target)
            return
        for paddle, compiled in zip(self.paddles, objects, strict=True):
            library = target.with_suffix("") / f"{paddle.version}.so" if WHEEL_FOLDERS else target
            command = [*self._link_command(), str(compiled)]
            command += ["-Wl,-rpath,$ORIGIN/.." if WHEEL_FOLDERS else "-Wl,-rpath,$ORIGIN"]
            command += [f"-L{paddle.folder / 'base'}", f"-L{target.parent}"]
            command += ["-Wl,--no-as-needed", "-l:libpaddle.so", "-l:_kernels.so", "-Wl,--as-needed"]
            kernels.link(command, library)

    def _link_command(self) -> list[str]:
        # -z now: a symbol that the running Paddle lacks makes the import fail, instead of aborting a later call.
        return [self.compiler, "-shared", "-Wl,-z,now", "-Wl,-s"]

    def _write_build_info(self) -> None:
        isas = sorted({"portable", *(kernels.isa_of(source).lstrip("_") for source in kernels.cpu_sources())} - {""})
        nvcc = self.cache.compiler_version(str(self.cuda.nvcc)) if self.cuda else ""
        # In a wheel the names of the operator libraries are the versions.
        built_for = "" if WHEEL_FOLDERS else f"PADDLE_VERSION = {self.paddles[0].version!r}\n"
        text = (
            '"""What this installation was built from and for; written by setup.py."""\n\n'
            f"{built_for}"
            f"COMPILER = {self.cache.compiler_version(self.compiler)!r}\n"
            f"CUDA_COMPILER = {nvcc!r}\n"
            f"CPU_KERNELS = {isas!r}\n"
        )
        (Path(self.get_ext_fullpath(f"{PACKAGE}._kernels")).parent / "_build_info.py").write_text(text)

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()  # an editable install copies the binaries only
        built = Path(self.build_lib) / PACKAGE / "_build_info.py"
        shutil.copyfile(built, ROOT / PACKAGE / "_build_info.py")


setup(
    ext_modules=[
        Extension(f"{PACKAGE}._kernels", [str(source.relative_to(ROOT)) for source in kernels.cpu_sources()]),
        Extension(f"{PACKAGE}._ops", ["csrc/paddle_op.cc"]),
        Extension(f"{PACKAGE}._core", ["csrc/python_module.cc"]),
    ],
    cmdclass={"build_ext": BuildBinaries},
)
