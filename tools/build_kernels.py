"""Build the kernel library (csrc/flashmask.h). Needs only Python's standard library, g++ and, for CUDA, nvcc.

    python3 tools/build_kernels.py build/_kernels.so               CPU kernels, and CUDA kernels if nvcc is found
    python3 tools/build_kernels.py build/_kernels.so --cuda 1      an error where nvcc is missing
    python3 tools/build_kernels.py build/_emulated.so --emulated   the CUDA kernels too, run by tests/emulator

setup.py builds the same library through the functions below. Objects stay in build/objects for as long as everything
they were made from stays, also where the tree is copied or moved with them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import importlib.util
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OBJECTS = ROOT / "build" / "objects"

COMMON_FLAGS = ["-std=c++17", "-O2", "-g0", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
COMMON_FLAGS += [f"-ffile-prefix-map={ROOT}=.", f"-I{ROOT / 'csrc'}"]
KERNEL_FLAGS = ["-O3", "-fopenmp"]
# Suffix of a file name -> flags of its instruction set, on x86-64 only. Other files run everywhere.
ISA_FLAGS = {
    "_avx2": ["-mavx2", "-mfma", "-mf16c"],
    "_avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"],
}
IS_X86_64 = platform.machine() in ("x86_64", "AMD64")

EMULATOR_FLAGS = ["-DPFM_EMULATOR", f"-I{ROOT / 'tests'}", "-Wno-unknown-pragmas", "-Wno-psabi"]
COMMON_ARCHS = ("80", "90")  # machine code of the sources outside of architecture folders
CUDA_PTX = "80"  # in every build: PTX that later devices compile at load

# Messages of ptxas when it waits after every wgmma or does not reallocate registers: the kernel would be correct but
# several times slower.
SLOW_WGMMA = re.compile(
    r"C75\d\d|Potential Performance Loss|wgmma.* serialized|setmaxnreg.* ignored|ignor\w+ .*setmaxnreg"
)
OLDEST_CUDA = (12, 6)  # none before was tried


@dataclass(frozen=True)
class ArchitectureFolder:
    """Folder of csrc/cuda whose kernels run on one compute capability only.

    All other sources are compiled for every capability of the build. dispatch.cu has a row for each folder, guarded by
    `macro`.
    """

    folder: Path
    arch: str  # of CUDA_ARCHS; its sources are compiled for this one alone
    macro: str
    refused: re.Pattern[str]  # output of ptxas that fails the build
    oldest_cuda: tuple[int, int]
    why: str  # the reason for oldest_cuda


ARCHITECTURE_FOLDERS = (
    ArchitectureFolder(
        ROOT / "csrc" / "cuda" / "sm90",
        arch="90a",
        macro="PFM_CUDA_BUILDS_SM90",
        refused=SLOW_WGMMA,
        oldest_cuda=(12, 9),
        why="ptxas before 12.9 serializes their wgmma instructions (C7515)",
    ),
)
CUDA_ARCHS = (*COMMON_ARCHS, *(folder.arch for folder in ARCHITECTURE_FOLDERS))  # values of PFM_CUDA_ARCHS


class BuildError(SystemExit):
    """Failure of the build, shown as one readable message instead of a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(f"\npaddle-flashmask: {message}\n")


@dataclass(frozen=True)
class CudaToolkit:
    nvcc: Path
    version: str
    library: Path  # libcudart_static.a

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))


@dataclass(frozen=True)
class Unit:
    """One compiler call.

    command: without source and result. salt: further dependencies of the object. refused: output that fails the build.
    """

    source: Path
    command: tuple[str, ...]
    salt: str = ""
    refused: re.Pattern[str] | None = None


def find_compiler() -> str:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise BuildError(
            f"the C++ compiler {compiler!r} was not found. Install one (Debian, Ubuntu: apt-get install g++) "
            "or name yours in the environment variable CXX"
        )
    return compiler


def nvcc_candidates() -> list[Path]:
    """Paths to try: CUDA_HOME alone if it is set, otherwise PATH, pip packages and /usr/local/cuda."""
    if os.environ.get("CUDA_HOME"):
        return [Path(os.environ["CUDA_HOME"]) / "bin" / "nvcc"]
    found = [Path(path).resolve() for path in [shutil.which("nvcc")] if path]
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found += sorted(Path(folder).glob("cu*/bin/nvcc"), reverse=True)
    return [*found, Path("/usr/local/cuda/bin/nvcc")]


def find_cuda() -> tuple[CudaToolkit | None, str]:
    """First usable toolkit, or None and the reason."""
    reason = "nvcc was not found in CUDA_HOME, PATH, the installed pip packages or /usr/local/cuda"
    for nvcc in nvcc_candidates():
        if not os.access(nvcc, os.X_OK):
            continue
        answer = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
        version = re.search(r"release (\d+)\.(\d+)", answer.stdout)
        if version is None:
            reason = f"{nvcc} --version failed"
            continue
        if tuple(map(int, version.groups())) < OLDEST_CUDA:
            oldest = ".".join(map(str, OLDEST_CUDA))
            found = ".".join(version.groups())
            reason = f"{nvcc} is version {found}, expected {oldest} or later: none before was tried"
            continue
        home = nvcc.parent.parent
        places = [home / "lib64", home / "lib", home / "targets" / "x86_64-linux" / "lib"]
        library = next((p / "libcudart_static.a" for p in places if (p / "libcudart_static.a").exists()), None)
        if library is None:
            reason = f"{nvcc} has no libcudart_static.a in {', '.join(map(str, places))}"
            continue
        return CudaToolkit(nvcc, ".".join(version.groups()), library), ""
    return None, reason


def wanted_cuda(request: str, paddle_cuda: str = "") -> CudaToolkit | None:
    """Return the toolkit for PFM_CUDA ("0", "1" or "auto"); None: build without CUDA kernels.

    `paddle_cuda` is the CUDA version of the installed Paddle, "" for a CPU build. Beside a CUDA build of Paddle, "auto"
    fails where no toolkit is found: the package would raise at the first call with GPU tensors.
    """
    if request not in ("0", "1", "auto"):
        raise BuildError(f"PFM_CUDA is {request!r}, expected 0, 1 or auto")
    if request == "0":
        return None
    toolkit, reason = find_cuda()
    if toolkit is None and request == "1":
        raise BuildError(
            f"PFM_CUDA=1 asks for CUDA kernels, but {reason}. Install the CUDA toolkit and set CUDA_HOME, or "
            "`pip install -r requirements/cuda.txt`"
        )
    if toolkit is None and paddle_cuda:
        raise BuildError(
            f"the installed Paddle is built for CUDA {paddle_cuda}, but {reason}. Install the CUDA toolkit and set "
            "CUDA_HOME, or `pip install -r requirements/cuda.txt`; PFM_CUDA=0 builds for CPU tensors only"
        )
    if toolkit is None:
        print(f"paddle-flashmask: no CUDA kernels in this build: {reason}", flush=True)
    return toolkit


def wanted_archs(request: str, toolkit: CudaToolkit | None) -> tuple[str, ...]:
    """Return the architectures of PFM_CUDA_ARCHS ("80,90a"); for "" all that the toolkit can build, and print the rest.

    Raise BuildError for unknown ones, and where one is named that the toolkit cannot build.
    """
    archs = _checked_archs(request) if request else CUDA_ARCHS
    for folder in ARCHITECTURE_FOLDERS:
        if toolkit is None or folder.arch not in archs or toolkit.release >= folder.oldest_cuda:
            continue
        oldest = ".".join(map(str, folder.oldest_cuda))
        name = folder.folder.relative_to(ROOT)
        missing = f"the kernels of {name} ({folder.arch}) need CUDA {oldest}, found {toolkit.version}: {folder.why}"
        if request:
            raise BuildError(f"PFM_CUDA_ARCHS is {request!r}, but {missing}")
        print(f"paddle-flashmask: {missing}. Compute capability 9.0 runs the kernels of csrc/cuda/sm80", flush=True)
        archs = tuple(arch for arch in archs if arch != folder.arch)
    return archs


def _checked_archs(text: str) -> tuple[str, ...]:
    archs = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [arch for arch in archs if arch not in CUDA_ARCHS]
    if unknown or not archs:
        raise BuildError(
            f"PFM_CUDA_ARCHS is {text!r}, expected a list of {', '.join(CUDA_ARCHS)}; other devices from 8.0 on "
            f"compile the PTX of compute_{CUDA_PTX} that every build holds"
        )
    return archs


def isa_of(source: Path) -> str:
    return next((suffix for suffix in ISA_FLAGS if source.stem.endswith(suffix)), "")


def cpu_sources() -> list[Path]:
    sources = [ROOT / "csrc" / "capi.cc", *sorted((ROOT / "csrc" / "cpu").glob("*.cc"))]
    return [source for source in sources if IS_X86_64 or not isa_of(source)]


def cuda_sources() -> list[Path]:
    return sorted((ROOT / "csrc" / "cuda").rglob("*.cu"))


def cpu_units(compiler: str) -> list[Unit]:
    return [
        Unit(source, (compiler, *COMMON_FLAGS, *KERNEL_FLAGS, *ISA_FLAGS.get(isa_of(source), [])))
        for source in cpu_sources()
    ]


def no_cuda_units(compiler: str) -> list[Unit]:
    return [Unit(ROOT / "csrc" / "no_cuda.cc", (compiler, *COMMON_FLAGS))]


def cuda_units(toolkit: CudaToolkit, compiler: str, archs: tuple[str, ...]) -> list[Unit]:
    folders = [folder for folder in ARCHITECTURE_FOLDERS if folder.arch in archs]
    common = [arch for arch in archs if arch not in {folder.arch for folder in ARCHITECTURE_FOLDERS}]
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in common]
    codes.append(f"-gencode=arch=compute_{CUDA_PTX},code=compute_{CUDA_PTX}")
    names = [f"sm_{arch}" for arch in archs] + [f"compute_{CUDA_PTX}"]
    flags = ["-std=c++17", "-O3", "-lineinfo", "-Xfatbin=-compress-all", "-DNDEBUG", f"-I{ROOT / 'csrc'}"]
    flags += ["-Werror=all-warnings", "-Xptxas=-v"]
    flags += ["-ccbin", compiler, f"-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra,-ffile-prefix-map={ROOT}=."]
    flags.append(f'-DPFM_CUDA_ARCHITECTURES="{" ".join(names)}"')
    flags += [f"-D{folder.macro}={int(folder in folders)}" for folder in ARCHITECTURE_FOLDERS]
    command = (str(toolkit.nvcc), *flags)
    units = []
    for source in cuda_sources():
        own = next((folder for folder in ARCHITECTURE_FOLDERS if folder.folder in source.parents), None)
        if own is None:
            units.append(Unit(source, (*command, *codes)))
        elif own in folders:
            code = f"-gencode=arch=compute_{own.arch},code=sm_{own.arch}"
            units.append(Unit(source, (*command, code), refused=own.refused))
    return units


def this_machine_has_avx2() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and {"avx2", "fma", "f16c"} <= set(cpu.read_text().split())


def emulated_units(compiler: str) -> list[Unit]:
    """CUDA sources as C++, and the emulator. Compiled for this machine only, since tests alone use them."""
    flags = (compiler, *COMMON_FLAGS, *EMULATOR_FLAGS, *(ISA_FLAGS["_avx2"] if this_machine_has_avx2() else []))
    macros = [f"-D{folder.macro}=1" for folder in ARCHITECTURE_FOLDERS]
    cuda_flags = (*flags, '-DPFM_CUDA_ARCHITECTURES="emulated"', *macros, "-x", "c++")
    kernels = [Unit(source, cuda_flags) for source in cuda_sources()]
    machine = sorted((ROOT / "tests" / "emulator").glob("*.cc"))
    return kernels + [Unit(source, (*flags, "-fvisibility=default")) for source in machine]  # pfm_emulator_*


class ObjectCache:
    """Cache of objects and compiler output, valid while source, headers, command and compiler are unchanged."""

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}

    def compiler_version(self, compiler: str) -> str:
        """Line of --version with the version."""
        if compiler not in self._versions:
            answer = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
            lines = answer.splitlines()
            self._versions[compiler] = next((line for line in lines if "release" in line), lines[0])
        return self._versions[compiler]

    def compile(self, unit: Unit) -> Path:
        identity = "\0".join([*unit.command, self.compiler_version(unit.command[0]), unit.salt]).replace(str(ROOT), ".")
        variant = hashlib.sha256(identity.encode()).hexdigest()[:12]
        name = str(unit.source.relative_to(ROOT)).replace(os.sep, "-")
        stem = OBJECTS / f"{name}-{variant}"
        result, depfile, stamp, log = (Path(f"{stem}{suffix}") for suffix in (".o", ".d", ".stamp", ".log"))
        if all(p.exists() for p in (result, depfile, stamp, log)) and stamp.read_text() == self._content(depfile):
            return result
        OBJECTS.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        # Written under temporary names: another process may be making or linking the same object.
        made, made_depfile = (Path(f"{stem}.{os.getpid()}{suffix}") for suffix in (".o", ".d"))
        command = [*unit.command, "-MMD", "-MF", str(made_depfile), "-c", str(unit.source), "-o", str(made)]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        complaint = unit.refused.search(ran.stdout) if unit.refused else None
        if complaint:
            made.unlink(missing_ok=True)
        if ran.returncode != 0 or complaint:
            made_depfile.unlink(missing_ok=True)
            print(" ".join(command), ran.stdout, sep="\n", file=sys.stderr, flush=True)
            why = f": the compiler printed {complaint[0]!r}" if complaint else ""
            raise BuildError(f"compiling {unit.source.relative_to(ROOT)} failed{why}, see above")
        names = made_depfile.read_text().replace("\\\n", " ").split(":", 1)[1].split()
        made_depfile.write_text("\n".join(os.path.relpath(name, ROOT) for name in names))
        os.replace(made_depfile, depfile)
        os.replace(made, result)
        log.write_text(ran.stdout)
        stamp.write_text(self._content(depfile))
        return result

    @staticmethod
    def log_of(result: Path) -> str:
        """Output of the compiler for this object."""
        return result.with_suffix(".log").read_text()

    @staticmethod
    def _content(depfile: Path) -> str:
        """Hash of every file the object depends on, except system headers; empty if one is missing."""
        files = [ROOT / name for name in depfile.read_text().splitlines()]
        if not all(file.exists() for file in files):
            return ""
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def compile_all(self, units: list[Unit]) -> list[Path]:
        """Return an object for each unit, and print a line as each is done."""
        workers = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        print(f"paddle-flashmask: compiling {len(units)} files, {workers} at a time (MAX_JOBS)", flush=True)
        done = itertools.count(1)

        def compile_one(unit: Unit) -> Path:
            started = time.monotonic()
            result = self.compile(unit)
            name, seconds = unit.source.relative_to(ROOT), time.monotonic() - started
            print(f"[{next(done)}/{len(units)}] {name} ({seconds:.0f} s)", flush=True)
            return result

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return list(pool.map(compile_one, units))


def link(command: list[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f"{target.name}.{os.getpid()}.tmp")  # never rewrite a library that is mapped
    command = [*command, "-o", str(scratch)]
    print(f"linking {target.name}", flush=True)
    if subprocess.run(command).returncode != 0:
        print(" ".join(command), file=sys.stderr, flush=True)
        raise BuildError(f"linking {target.name} failed, see above")
    os.replace(scratch, target)


def kernel_link_command(compiler: str, objects: list[Path], toolkit: CudaToolkit | None) -> list[str]:
    # --no-undefined: every symbol must come from the inputs. The CUDA runtime is linked in and exports nothing.
    command = [compiler, "-shared", "-fopenmp", "-Wl,-z,now", "-Wl,-s", "-Wl,-soname,_kernels.so", "-Wl,--no-undefined"]
    command += map(str, objects)
    if toolkit is not None:
        command += [str(toolkit.library), "-Wl,--exclude-libs,ALL", "-ldl", "-lrt", "-lpthread"]
    return command


def build_kernel_library(target: Path, toolkit: CudaToolkit | None, archs: tuple[str, ...], emulated: bool) -> None:
    compiler = find_compiler()
    units = cpu_units(compiler)
    if emulated:
        units += emulated_units(compiler)
    elif toolkit is not None:
        units += cuda_units(toolkit, compiler, archs)
    else:
        units += no_cuda_units(compiler)
    objects = ObjectCache().compile_all(units)
    link(kernel_link_command(compiler, objects, None if emulated else toolkit), target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--cuda", default="auto", help="0, 1 or auto")
    parser.add_argument("--cuda-archs", default="", help=f"machine code for these of {', '.join(CUDA_ARCHS)}")
    parser.add_argument("--emulated", action="store_true")
    arguments = parser.parse_args()
    toolkit = None if arguments.emulated else wanted_cuda(arguments.cuda)
    archs = wanted_archs(arguments.cuda_archs, toolkit)
    build_kernel_library(arguments.output.resolve(), toolkit, archs, arguments.emulated)
    kind = "emulated CUDA" if arguments.emulated else f"CUDA {toolkit.version}" if toolkit else "no CUDA"
    print(f"{arguments.output}: CPU kernels, {kind}")


if __name__ == "__main__":
    main()
