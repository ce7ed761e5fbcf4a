"""Builds the three binaries of the package. They differ in what they may see:

_kernels.so   the attention kernels behind the C ABI of csrc/flashmask.h: neither Paddle nor Python.
_ops.so       the Paddle operator over that C ABI: the only file that depends on the Paddle version.
_core.*.so    a Python module (pybind11) over the mask arithmetic of csrc/core.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OBJECTS = ROOT / "build" / "objects"
PACKAGE = "paddle_flashmask"

COMMON_FLAGS = [
    "-std=c++17",
    "-O2",
    "-g0",
    "-DNDEBUG",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    f"-ffile-prefix-map={ROOT}=.",
    f"-I{ROOT / 'csrc'}",
]
# A file whose name ends so is compiled for that instruction set, and only on x86-64; the rest runs everywhere.
ISA_FLAGS = {
    "_avx2": ["-mavx2", "-mfma", "-mf16c"],
    "_avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"],
}
IS_X86_64 = platform.machine() in ("x86_64", "AMD64")


class BuildError(SystemExit):
    """Ends the build with one readable message instead of a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(f"\npaddle-flashmask: {message}\n")


def check_cuda_request() -> None:
    request = os.environ.get("PFM_CUDA", "auto")
    if request == "1":
        raise BuildError("PFM_CUDA=1 asks for CUDA kernels, but there are no CUDA kernels in this release")
    if request not in ("0", "auto"):
        raise BuildError(f"PFM_CUDA is {request!r}, expected 0, 1 or auto")


def find_compiler() -> str:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise BuildError(
            f"the C++ compiler {compiler!r} was not found. Install one (Debian, Ubuntu: apt-get install g++) "
            "or name yours in the environment variable CXX"
        )
    return compiler


def find_paddle() -> tuple[str, Path]:
    """Version and folder of the installed Paddle, without the seconds that importing it takes."""
    spec = importlib.util.find_spec("paddle")
    if spec is None or spec.origin is None:
        raise BuildError(
            f"paddle is not importable by {sys.executable}. The operator is compiled against the Paddle it will run "
            "in: first `pip install paddlepaddle` and `pip install setuptools wheel pybind11`, then install this "
            "package with `pip install --no-build-isolation .`"
        )
    root = Path(spec.origin).parent
    version_spec = importlib.util.spec_from_file_location("paddle_version", root / "version" / "__init__.py")
    version = importlib.util.module_from_spec(version_spec)
    version_spec.loader.exec_module(version)
    return version.full_version, root


def find_pybind11() -> str:
    try:
        import pybind11
    except ImportError:
        raise BuildError("pybind11 is not importable: `pip install pybind11` first") from None
    return pybind11.get_include()


def isa_of(source: Path) -> str:
    return next((suffix for suffix in ISA_FLAGS if source.stem.endswith(suffix)), "")


def kernel_sources() -> list[Path]:
    sources = [ROOT / "csrc" / "capi.cc", *sorted((ROOT / "csrc" / "cpu").glob("*.cc"))]
    return [source for source in sources if IS_X86_64 or not isa_of(source)]


class ObjectCache:
    """Compiles one file at a time and keeps the object while source, headers, flags, compiler and Paddle stay."""

    def __init__(self, compiler: str, paddle_version: str) -> None:
        self.compiler = compiler
        self.paddle_version = paddle_version
        self.compiler_version = subprocess.run(
            [compiler, "--version"], check=True, capture_output=True, text=True
        ).stdout.splitlines()[0]

    def compile(self, source: Path, flags: list[str]) -> Path:
        command = [self.compiler, *flags]
        identity = "\0".join([*command, self.compiler_version, self.paddle_version])
        variant = hashlib.sha256(identity.encode()).hexdigest()[:12]
        stem = OBJECTS / f"{source.stem}-{variant}"
        result, depfile, stamp = (stem.with_suffix(suffix) for suffix in (".o", ".d", ".stamp"))
        if result.exists() and stamp.exists() and depfile.exists() and stamp.read_text() == self._content(depfile):
            return result
        stamp.unlink(missing_ok=True)
        compile_command = [*command, "-MMD", "-MF", str(depfile), "-c", str(source), "-o", str(result)]
        print(" ".join(compile_command), flush=True)
        if subprocess.run(compile_command).returncode != 0:
            raise BuildError(f"compiling {source.relative_to(ROOT)} failed, see above")
        stamp.write_text(self._content(depfile))
        return result

    @staticmethod
    def _content(depfile: Path) -> str:
        """Hash of every file the object was made from (system headers aside); empty if one is gone."""
        digest = hashlib.sha256()
        for name in depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split():
            if not os.path.exists(name):
                return ""
            digest.update(Path(name).read_bytes())
        return digest.hexdigest()


class BuildBinaries(build_ext):
    """Own compile and link steps: the three binaries need different flags, per file, and one links to another."""

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.split(".")[-1] == "_core":
            return super().get_ext_filename(fullname)
        return os.path.join(*fullname.split(".")) + ".so"  # plain shared libraries carry no Python tag

    def build_extensions(self) -> None:
        check_cuda_request()
        compiler = find_compiler()
        self.paddle_version, self.paddle = find_paddle()
        self.cache = ObjectCache(compiler, self.paddle_version)
        OBJECTS.mkdir(parents=True, exist_ok=True)
        jobs = {extension.name: self._objects(extension) for extension in self.extensions}
        workers = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            futures = {
                name: [pool.submit(self.cache.compile, source, flags) for source, flags in units]
                for name, units in jobs.items()
            }
            objects = {name: [future.result() for future in units] for name, units in futures.items()}
        for extension in self.extensions:
            self._link(extension, objects[extension.name])
        self._write_build_info()

    def _objects(self, extension: Extension) -> list[tuple[Path, list[str]]]:
        units = []
        for name in extension.sources:
            source = ROOT / name
            flags = [*COMMON_FLAGS]
            if extension.name.endswith("_kernels"):
                flags += ["-O3", "-fopenmp", *ISA_FLAGS.get(isa_of(source), [])]
            elif extension.name.endswith("_ops"):
                include = self.paddle / "include"
                # As system headers: warnings stay on for this project's code and off for Paddle's.
                flags += ["-D_GLIBCXX_USE_CXX11_ABI=1", "-DPADDLE_WITH_CUSTOM_KERNEL", "-isystem", str(include)]
                flags += ["-isystem", str(include / "third_party")]
            else:
                flags += ["-isystem", find_pybind11(), "-isystem", sysconfig.get_paths()["include"]]
            units.append((source, flags))
        return units

    def _link(self, extension: Extension, objects: list[Path]) -> None:
        target = Path(self.get_ext_fullpath(extension.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # -z now: a symbol that the running Paddle lacks fails the load with an exception, not a later call with an
        # abort. --no-undefined where every symbol must come from the libraries named here.
        flags = ["-shared", "-Wl,-z,now", "-Wl,-s"]
        libraries: list[str] = []
        if extension.name.endswith("_kernels"):
            flags += ["-fopenmp", "-Wl,-soname,_kernels.so", "-Wl,--no-undefined"]
        elif extension.name.endswith("_ops"):
            flags += ["-Wl,-rpath,$ORIGIN", f"-L{self.paddle / 'base'}", f"-L{target.parent}"]
            libraries = ["-Wl,--no-as-needed", "-l:libpaddle.so", "-l:_kernels.so", "-Wl,--as-needed"]
        scratch = target.with_name(f"{target.name}.{os.getpid()}.tmp")  # never rewrite a library that is mapped
        command = [self.cache.compiler, *flags, *map(str, objects), *libraries, "-o", str(scratch)]
        print(" ".join(command), flush=True)
        if subprocess.run(command).returncode != 0:
            raise BuildError(f"linking {target.name} failed, see above")
        os.replace(scratch, target)

    def _write_build_info(self) -> None:
        kernels = sorted({"portable", *(isa_of(source).lstrip("_") for source in kernel_sources() if isa_of(source))})
        text = (
            '"""What this installation was built from and for; written by setup.py."""\n\n'
            f"PADDLE_VERSION = {self.paddle_version!r}\n"
            f"COMPILER = {self.cache.compiler_version!r}\n"
            f"CPU_KERNELS = {kernels!r}\n"
            "CUDA_KERNELS = []\n"
        )
        (Path(self.get_ext_fullpath(f"{PACKAGE}._kernels")).parent / "_build_info.py").write_text(text)

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()  # for an editable install; copies the binaries only
        built = Path(self.build_lib) / PACKAGE / "_build_info.py"
        shutil.copyfile(built, ROOT / PACKAGE / "_build_info.py")


setup(
    ext_modules=[
        Extension(f"{PACKAGE}._kernels", [str(source.relative_to(ROOT)) for source in kernel_sources()]),
        Extension(f"{PACKAGE}._ops", ["csrc/paddle_op.cc"]),
        Extension(f"{PACKAGE}._core", ["csrc/python_module.cc"]),
    ],
    cmdclass={"build_ext": BuildBinaries},
)
