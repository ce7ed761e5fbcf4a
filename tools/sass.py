"""Count instructions in the machine code of the sm90 kernels.

    python3 -m tools.sass

Needs nvcc, and cuobjdump of the CUDA toolkit or of requirements/cuda.txt.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from tools import build_kernels, compile_cuda

INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(?P<name>[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*)")
# Matrix products, TMA loads and stores, reductions to global memory, exp2, multiply-add, mask bits, spills.
SHOWN = ("HGMMA", "UTMALDG", "UTMASTG", "UTMAREDG", "RED", "MUFU.EX2", "FFMA", "R2P", "STL", "LDL")


def find_cuobjdump(toolkit: build_kernels.CudaToolkit) -> Path | None:
    candidates = [toolkit.nvcc.parent / "cuobjdump"]
    candidates += [Path(path) for path in [shutil.which("cuobjdump")] if path]
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        candidates += sorted(Path(folder).glob("cu*/bin/cuobjdump"), reverse=True)
    return next((path for path in candidates if path.exists()), None)


def functions_in(text: str) -> dict[str, Counter[str]]:
    """Instruction counts in the output of `cuobjdump -sass`: mangled name -> instruction with suffixes -> count."""
    functions: dict[str, Counter[str]] = {}
    for part in re.split(r"^\s*Function : ", text, flags=re.MULTILINE)[1:]:
        symbol, _, body = part.partition("\n")
        functions[symbol.strip()] = Counter(match["name"] for match in INSTRUCTION.finditer(body))
    return functions


def count(instructions: Counter[str], name: str) -> int:
    """Number of instructions `name` with any suffixes."""
    return sum(n for found, n in instructions.items() if found == name or found.startswith(f"{name}."))


def sm90_machine_code(toolkit: build_kernels.CudaToolkit, cuobjdump: Path) -> list[str]:
    """Return the output of `cuobjdump -sass` for each object of csrc/cuda/sm90 that holds kernels."""
    units = build_kernels.cuda_units(toolkit, build_kernels.find_compiler(), build_kernels.CUDA_ARCHS)
    units = [unit for unit in units if unit.source.parent.name == "sm90"]
    objects = build_kernels.ObjectCache().compile_all(units)
    texts = [subprocess.run([cuobjdump, "-sass", path], capture_output=True, text=True).stdout for path in objects]
    return [text for text in texts if "Function : " in text]


def find_tools() -> tuple[build_kernels.CudaToolkit, Path]:
    """Return the CUDA toolkit and cuobjdump; BuildError where one is missing."""
    toolkit = build_kernels.wanted_cuda("1")
    cuobjdump = find_cuobjdump(toolkit)
    if cuobjdump is None:
        raise build_kernels.BuildError("cuobjdump was not found: `pip install -r requirements/cuda.txt`")
    return toolkit, cuobjdump


def main() -> None:
    functions = {name: found for text in sm90_machine_code(*find_tools()) for name, found in functions_in(text).items()}
    rows = compile_cuda.table_rows()
    print("| kernel | dtype | D, Dv | " + " | ".join(SHOWN) + " |\n" + "|---" * (3 + len(SHOWN)) + "|")
    for symbol, instructions in sorted(functions.items()):
        name, dtype, head_dims = compile_cuda.identity_of(symbol, rows)[:3]
        counts = " | ".join(str(count(instructions, shown)) for shown in SHOWN)
        print(f"| {name} | {dtype} | {head_dims} | {counts} |")


if __name__ == "__main__":
    main()
