"""Compile every CUDA kernel and list registers, shared memory and spills as reported by ptxas. Fails on new spills.

    python3 -m tools.compile_cuda --csv benchmarks/results/cuda_compile.csv --markdown

Objects are those of the build (tools/build_kernels.py), so a second run costs nothing.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from tools import build_kernels, kernel_tables

# (kernel, head dims, tile, arch) -> known bytes of spill stores and loads, for both dtypes: one or two registers of the
# deterministic backward, reloaded once per tile of at least 100 matrix instructions per warp. Other kernels must not
# spill, least of all those of csrc/cuda/sm90 (arch sm_90a), whose asynchronous products hide no latency of spills.
ALLOWED_SPILLS = {
    ("Backward", "128,128", "64x128", "sm_80"): 8,
    ("Backward", "128,128", "64x64", "sm_80"): 16,
    ("Backward", "256,256", "64x64", "sm_80"): 8,
}
FOLDERS = tuple(sorted(path.name for path in (build_kernels.ROOT / "csrc" / "cuda").glob("sm*")))
NAMESPACES = ("pfm", "cuda", "ptx", *FOLDERS)
ELEMENT_TYPES = {"Float16": "fp16", "BFloat16": "bf16"}


@dataclass(frozen=True)
class Kernel:
    name: str
    dtype: str
    head_dims: str
    tile: str
    arch: str
    shared_bytes: str  # dynamic
    registers: int
    stack_bytes: int
    spill_bytes: int

    @property
    def allowed_spill_bytes(self) -> int:
        return ALLOWED_SPILLS.get((self.name, self.head_dims, self.tile, self.arch), 0)


# (folder, kernel, row) -> head dims, tile, shared bytes
Rows = dict[tuple[str, str, str], tuple[str, str, str]]


def table_rows() -> Rows:
    return {
        (tile.folder, tile.kernel, str(tile.row)): (
            f"{tile.head_dim},{tile.head_dim_v}",
            f"{tile.tile_q}x{tile.tile_k}",
            str(tile.shared_bytes),
        )
        for tile in kernel_tables.tiles()
    }


def names_in(symbol: str) -> list[str]:
    """Identifiers in a mangled name, each preceded by its length."""
    names, at = [], 0
    while match := re.compile(r"\d+").search(symbol, at):
        at = match.end() + int(match[0])
        names.append(symbol[match.end() : at])
    return names


def identity_of(symbol: str, rows: Rows) -> tuple[str, str, str, str, str]:
    """Name, dtype, head dims, tile and shared bytes of a kernel by its mangled name."""
    names = names_in(symbol)
    dtype = next((ELEMENT_TYPES[name] for name in names if name in ELEMENT_TYPES), "")
    name = next(n for n in names if n not in (*NAMESPACES, *ELEMENT_TYPES) and re.fullmatch(r"[A-Z]\w+", n))
    row = re.search(r"Li(\d+)E", symbol)
    folder = next((n for n in names if n in FOLDERS), "")
    return name, dtype, *rows.get((folder, name, row[1] if row else ""), ("", "", ""))


def kernels_in(log: str, rows: Rows) -> Iterator[Kernel]:
    entry = re.compile(
        r"Compiling entry function '(?P<symbol>\S+)' for '(?P<arch>sm_\w+)'.*?"
        r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
        r"Used (?P<registers>\d+) registers",
        re.DOTALL,
    )
    for match in entry.finditer(log):
        name, dtype, head_dims, tile, shared = identity_of(match["symbol"], rows)
        spilled = int(match["stores"]) + int(match["loads"])
        numbers = shared, int(match["registers"]), int(match["stack"]), spilled
        yield Kernel(name, dtype, head_dims, tile, match["arch"], *numbers)


def compile_all() -> list[Kernel]:
    toolkit = build_kernels.wanted_cuda("1")
    units = build_kernels.cuda_units(toolkit, build_kernels.find_compiler(), build_kernels.CUDA_ARCHS)
    objects = build_kernels.ObjectCache().compile_all(units)
    rows = table_rows()
    logs = (build_kernels.ObjectCache.log_of(result) for result in objects)
    return sorted(
        {kernel for log in logs for kernel in kernels_in(log, rows)},
        key=lambda k: (
            k.name,
            k.dtype,
            k.arch,
            int(k.head_dims.split(",")[0] or 0),
            k.tile,
            k.spill_bytes,
            k.registers,
        ),
    )


def markdown(kernels: list[Kernel]) -> str:
    lines = ["| kernel | dtype | D, Dv | tile | arch | shared | registers | stack | spilled |", "|" + "---|" * 9]
    lines += ["| " + " | ".join(map(str, astuple(kernel))) + " |" for kernel in kernels]
    return "\n".join(lines)


def read_csv(path: Path) -> list[Kernel]:
    """Rows written by an earlier run."""
    with path.open(newline="") as file:
        return [Kernel(**row) for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, help="write the rows to this file")
    parser.add_argument("--markdown", action="store_true", help="write the table too, beside the CSV or to stdout")
    arguments = parser.parse_args()
    kernels = compile_all()
    if not kernels:
        raise build_kernels.BuildError("the compiler reported no kernel: is -Xptxas=-v missing?")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(Kernel)])
            writer.writerows(map(astuple, kernels))
    if arguments.markdown and arguments.csv:
        arguments.csv.with_suffix(".md").write_text(markdown(kernels) + "\n")
    elif arguments.markdown:
        print(markdown(kernels))
    spilling = [kernel for kernel in kernels if kernel.spill_bytes > kernel.allowed_spill_bytes]
    for kernel in spilling:
        print(f"{kernel}: allowed {kernel.allowed_spill_bytes} bytes of spills", file=sys.stderr)
    print(f"{len(kernels)} kernels compiled, {len(spilling)} spill more than allowed")
    sys.exit(bool(spilling))


if __name__ == "__main__":
    main()
