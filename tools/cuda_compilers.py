"""Compile the CUDA kernels with the compilers of several CUDA releases and record which serialize wgmma or spill.

    python3 -m tools.cuda_compilers --csv benchmarks/results/cuda_compilers.csv

NVIDIA's pip packages for CUDA 12 hold no nvcc, but its parts for device code: NVRTC makes PTX of the kernels, with the
front end and the optimizer of its release, and ptxas makes machine code. The host code is compiled by the nvcc of the
build alone. Kernels of bfloat16 only: float16 instantiates the same templates. The packages go to build/compilers.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from tools import build_kernels, nvrtc

COMPILERS = build_kernels.ROOT / "build" / "compilers"
PTXAS = Path("nvidia", "cuda_nvcc", "bin", "ptxas")
RELEASES = ("12.6", "12.8", "12.9")  # beside that of the build


@dataclass(frozen=True)
class Result:
    """What the compilers of one CUDA release made of the kernels of one source file."""

    cuda: str
    ptxas: str  # full version
    source: str
    arch: str
    kernels: int
    serialized: int  # kernels that wait after every wgmma
    spill_bytes: int  # stores and loads of all kernels
    in_build: bool  # whether tools/build_kernels.py builds this file with this release


def install(release: str) -> Path:
    """Install the compilers of a CUDA 12 release from pip into a folder of their own, and return it."""
    folder = COMPILERS / release
    names = [f"nvidia-cuda-{name}-cu12=={release}.*" for name in ("nvcc", *nvrtc.PACKAGES)]
    if not all((folder / "nvidia" / f"cuda_{name}").exists() for name in ("nvcc", *nvrtc.PACKAGES)):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", str(folder), *names], check=True)
    (folder / PTXAS).chmod(0o755)
    return folder


def ptx_of(unit: build_kernels.Unit, arch: str) -> str:
    """Compile one source file to PTX of one architecture."""
    target = COMPILERS / "ptx" / f"{unit.source.parent.name}-{unit.source.stem}-{arch}.ptx"
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [part for part in unit.command if not part.startswith(("-gencode", "-Xptxas"))]
    command += [f"-gencode=arch=compute_{arch},code=compute_{arch}", "-ptx", str(unit.source), "-o", str(target)]
    subprocess.run(command, check=True)
    return target.read_text()


def numbers_in(log: str) -> tuple[int, int, int]:
    """Return the kernels, serialized kernels and bytes of spills in the output of `ptxas -v`."""
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    serialized = {line for line in log.splitlines() if build_kernels.SLOW_WGMMA.search(line)}
    return len(re.findall(r"Used \d+ registers", log)), len(serialized), sum(map(int, spills))


def assemble(ptxas: Path, ptx: str, arch: str) -> str:
    """Run ptxas and return what it printed; RuntimeError where it fails."""
    source = COMPILERS / "ptx" / "assembled.ptx"
    source.write_text(ptx)
    command = [str(ptxas), "-v", f"-arch=sm_{arch}", str(source), "-o", str(source.with_suffix(".cubin"))]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout}")
    return done.stdout


def results(toolkit: build_kernels.CudaToolkit) -> Iterator[Result]:
    """Compile every source file that holds kernels with each release and with the toolkit."""
    homes = {release: install(release) for release in RELEASES}
    folders = {folder.folder: folder for folder in build_kernels.ARCHITECTURE_FOLDERS}
    for unit in build_kernels.cuda_units(toolkit, build_kernels.find_compiler(), build_kernels.CUDA_ARCHS):
        own = folders.get(unit.source.parent)
        arch = own.arch if own else build_kernels.CUDA_PTX
        ptx = "" if unit.source.stem.endswith(("_fp16", "_host")) else ptx_of(unit, arch)
        if ".entry" not in ptx:
            continue
        kernels = nvrtc.kernels_in(ptx)
        for release in (*homes, toolkit.version):
            home = homes.get(release)
            ptxas = home / PTXAS if home else toolkit.nvcc.parent / "ptxas"
            version = subprocess.run([ptxas, "--version"], check=True, capture_output=True, text=True).stdout
            own_ptx = nvrtc.compile_to_ptx(home, unit.source, kernels, arch) if home else ptx
            in_build = own is None or tuple(map(int, release.split("."))) >= own.oldest_cuda
            source = str(unit.source.relative_to(build_kernels.ROOT))
            numbers = numbers_in(assemble(ptxas, own_ptx, arch))
            yield Result(release, re.search(r"V([\d.]+)", version)[1], source, f"sm_{arch}", *numbers, in_build)


def markdown(rows: list[Result]) -> str:
    """Format the rows as a table, with the command that made them."""
    lines = [
        "Compilers of several CUDA releases on the bfloat16 kernels (`make cuda-compilers`): NVRTC and ptxas of 12.x,",
        "otherwise the nvcc of the build.",
        "",
        "| CUDA | ptxas | source | arch | kernels | serialized | spilled bytes | in the build |",
        "|" + "---|" * 8,
    ]
    for row in rows:
        *values, in_build = astuple(row)
        lines.append("| " + " | ".join(map(str, values)) + f" | {'yes' if in_build else 'no'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True, help="write the rows to this file, and a table beside it")
    path = parser.parse_args().csv
    rows = sorted(results(build_kernels.wanted_cuda("1")), key=lambda r: (tuple(map(int, r.cuda.split("."))), r.source))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Result)])
        writer.writerows(map(astuple, rows))
    path.with_suffix(".md").write_text(markdown(rows))
    wrong = [row for row in rows if (row.serialized == 0) != row.in_build]
    for row in wrong:
        print(f"{row}: expected serialized kernels where the build leaves them out, and only there", file=sys.stderr)
    print(f"{len(rows)} files compiled, {len(wrong)} contradict tools/build_kernels.py")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
