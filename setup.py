"""Build of the three binaries of the package:

_kernels.so   attention kernels with the C ABI of csrc/flashmask.h; depends on neither Paddle nor Python.
_ops.so       Paddle operator over that C ABI; the only binary that depends on the Paddle version.
_core.*.so    Python module (pybind11) over the mask arithmetic of csrc/core.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "paddle_flashmask"


def load_by_path(name: str, path: Path) -> ModuleType:
    """Import one file as module `name`. A build front end leaves the source tree off Python's path."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module


kernels = load_by_path("build_kernels", ROOT / "tools" / "build_kernels.py")


def find_paddle() -> tuple[str, Path]:
    """Version and folder of the installed Paddle, found without importing it, which takes seconds."""
    spec = importlib.util.find_spec("paddle")
    if spec is None or spec.origin is None:
        raise kernels.BuildError(
            f"paddle is not importable by {sys.executable}. The operator is compiled against the Paddle it will run "
            "in: first `pip install paddlepaddle` and `pip install setuptools wheel pybind11`, then install this "
            "package with `pip install --no-build-isolation .`"
        )
    root = Path(spec.origin).parent
    return load_by_path("paddle_version", root / "version" / "__init__.py").full_version, root


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
        self.cuda = kernels.wanted_cuda(os.environ.get("PFM_CUDA", "auto"))
        self.archs = kernels.checked_archs(os.environ.get("PFM_CUDA_ARCHS", ",".join(kernels.CUDA_ARCHS)))
        self.compiler = kernels.find_compiler()
        self.paddle_version, self.paddle = find_paddle()
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
            include = self.paddle / "include"
            # Paddle's headers count as system headers, so that warnings apply to this project's code only.
            flags = ["-D_GLIBCXX_USE_CXX11_ABI=1", "-DPADDLE_WITH_CUSTOM_KERNEL", "-isystem", str(include)]
            flags += ["-isystem", str(include / "third_party")]
        else:
            flags = ["-isystem", find_pybind11(), "-isystem", sysconfig.get_paths()["include"]]
        command = (self.compiler, *kernels.COMMON_FLAGS, *flags)
        return [kernels.Unit(ROOT / name, command, self.paddle_version) for name in extension.sources]

    def _link(self, extension: Extension, objects: list[Path]) -> None:
        target = Path(self.get_ext_fullpath(extension.name)).resolve()
        if extension.name.endswith("_kernels"):
            kernels.link(kernels.kernel_link_command(self.compiler, objects, self.cuda), target)
            return
        # -z now: a symbol that the running Paddle lacks makes the import fail, instead of aborting a later call.
        command = [self.compiler, "-shared", "-Wl,-z,now", "-Wl,-s", *map(str, objects)]
        if extension.name.endswith("_ops"):
            command += ["-Wl,-rpath,$ORIGIN", f"-L{self.paddle / 'base'}", f"-L{target.parent}"]
            command += ["-Wl,--no-as-needed", "-l:libpaddle.so", "-l:_kernels.so", "-Wl,--as-needed"]
        kernels.link(command, target)

    def _write_build_info(self) -> None:
        isas = sorted({"portable", *(kernels.isa_of(source).lstrip("_") for source in kernels.cpu_sources())} - {""})
        nvcc = self.cache.compiler_version(str(self.cuda.nvcc)) if self.cuda else ""
        text = (
            '"""What this installation was built from and for; written by setup.py."""\n\n'
            f"PADDLE_VERSION = {self.paddle_version!r}\n"
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
