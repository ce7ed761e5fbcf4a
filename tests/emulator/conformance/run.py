"""Compare every primitive of csrc/cuda/ptx/ptx.h on the current GPU with the emulator.

    python3 tests/emulator/conformance/run.py --nvcc --output conformance.json     on a machine with a GPU
    python3 tests/emulator/conformance/run.py --emulated-only                      anywhere with g++

Needs g++ and NumPy, with --nvcc also nvcc (its path, or else the NVCC of the environment, or the one in PATH) and a
GPU of compute capability 8.0 or later; no Paddle. The program checks either side against plain C++ as well. Exit
status 0: everything agrees.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
INCLUDES = [f"-I{REPOSITORY / 'csrc'}", f"-I{REPOSITORY / 'tests'}"]
PROGRAM = HERE / "program.cu"


def build_emulated(program: Path, flags: tuple[str, ...] = ()) -> None:
    command = [os.environ.get("CXX", "g++"), "-x", "c++", "-std=c++17", "-O1", "-DPFM_EMULATOR", *flags, *INCLUDES]
    sources = [PROGRAM, *sorted((REPOSITORY / "tests" / "emulator").glob("*.cc"))]
    subprocess.run([*command, *sources, "-o", program], check=True)


def build_for_gpu(program: Path, nvcc: str) -> None:
    """Build the probes with machine code for sm_80 and sm_90, and PTX for later devices."""
    codes = ["arch=compute_80,code=sm_80", "arch=compute_90,code=sm_90", "arch=compute_90,code=compute_90"]
    targets = [option for code in codes for option in ("-gencode", code)]
    library = f"-L{Path(shutil.which(nvcc) or nvcc).resolve().parent.parent / 'lib'}"  # pip's nvcc looks in lib64 only
    subprocess.run([nvcc, "-std=c++17", "-O2", *targets, *INCLUDES, library, PROGRAM, "-o", program], check=True)


def results_of(program: Path, side: str) -> tuple[dict[str, tuple[np.ndarray, np.ndarray | None]], list[str]]:
    """Results by name, with allowed absolute errors where bits may differ, and names that plain C++ contradicts."""
    output = program.with_suffix(".results")
    done = subprocess.run([program, "write", output], capture_output=True, text=True, timeout=600)
    complaints = [f"{side}: {line}" for line in (done.stdout + done.stderr).splitlines()]
    if done.returncode != 0 and not complaints:
        complaints = [f"{side}: the program ended with status {done.returncode}"]
    found = {}
    data = output.read_bytes() if output.exists() else b""
    position = 0
    while position < len(data):
        end = data.index(b"\n", position)
        name, count, comparison = data[position:end].decode().rsplit(" ", 2)
        position = end + 1
        arrays = []
        for dtype in (np.uint32, np.float32)[: 1 if comparison == "exact" else 2]:
            arrays.append(np.frombuffer(data, dtype, int(count), position))
            position += 4 * int(count)
        found[name] = arrays[0], arrays[1] if len(arrays) == 2 else None
    return found, complaints


def compare(words: np.ndarray, other: np.ndarray, allowed: np.ndarray | None) -> dict:
    """Comparison of two results of one primitive."""
    if words.shape != other.shape:
        return {"agrees": False, "why": f"{words.size} and {other.size} results"}
    differing = int(np.count_nonzero(words != other))
    report = {"results": int(words.size), "differing_bits": differing, "agrees": differing == 0}
    if allowed is None:
        if differing:
            at = int(np.flatnonzero(words != other)[0])
            report["first"] = {"index": at, "gpu": f"{words[at]:#010x}", "emulated": f"{other[at]:#010x}"}
        return report
    values, others = words.view(np.float32).astype(np.float64), other.view(np.float32).astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.where(values == others, 0.0, np.abs(values - others))
    # Each side may have the allowed error.
    share = np.max(np.where(error == 0.0, 0.0, error / np.maximum(2 * allowed.astype(np.float64), 1e-300)))
    report["largest_error_of_allowed"] = float(share)
    report["agrees"] = bool(share <= 1.0)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nvcc",
        nargs="?",
        metavar="PATH",
        const=os.environ.get("NVCC", "nvcc"),
        help="compile for the GPU as well, run there, and compare",
    )
    parser.add_argument("--emulated-only", action="store_true", help="the emulator against plain C++ only")
    parser.add_argument("--output", type=Path, help="where the report goes, as JSON")
    options = parser.parse_args()
    if (options.nvcc is not None) == options.emulated_only:
        parser.error("expected one of --nvcc and --emulated-only")
    report: dict = {"primitives": {}}
    with tempfile.TemporaryDirectory() as folder:
        emulated_program = Path(folder) / "emulated"
        build_emulated(emulated_program)
        emulated, complaints = results_of(emulated_program, "emulator")
        if options.nvcc is not None:
            gpu_program = Path(folder) / "gpu"
            build_for_gpu(gpu_program, options.nvcc)
            gpu, more = results_of(gpu_program, "GPU")
            complaints += more
            for name, (words, allowed) in emulated.items():
                missing = {"agrees": False, "why": "no result from the GPU"}
                report["primitives"][name] = compare(gpu[name][0], words, allowed) if name in gpu else missing
        else:
            report["primitives"] = {name: {"results": int(words.size)} for name, (words, _) in emulated.items()}
    report["compared_with_gpu"] = options.nvcc is not None
    report["complaints"] = complaints
    differing = [name for name, entry in report["primitives"].items() if not entry.get("agrees", True)]
    report["agrees"] = bool(report["primitives"]) and not complaints and not differing
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    for line in complaints:
        print(line)
    for name in differing:
        print(f"differs: {name}: {report['primitives'][name]}")
    sides = "GPU and emulator" if options.nvcc is not None else "emulator and plain C++ (no GPU compared)"
    print(f"conformance, {sides}: {len(report['primitives']) - len(differing)} of {len(report['primitives'])} agree")
    return 0 if report["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
