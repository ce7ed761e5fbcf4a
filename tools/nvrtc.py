"""Compile the device code of a CUDA source file with NVRTC, the run-time compiler in NVIDIA's pip packages for CUDA 12.

NVRTC holds the front end and the optimizer of nvcc of its release. It compiles kernels and no host code.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools import build_kernels

PACKAGES = ("nvrtc", "runtime", "cccl")  # of nvidia-cuda-*-cu12: the compiler, its headers, and a standard library
# NVRTC brings no headers of the C++ standard library. libcu++ has them in a namespace of its own.
_STANDARD = """#pragma once
#include <cuda/std/{0}>
using namespace cuda::std;
namespace std {{ using namespace cuda::std; }}
"""
STANDARD_HEADERS = {name: _STANDARD.format(name) for name in ("cstddef", "cstdint", "type_traits")} | {
    "stddef.h": "#include <cstddef>\n",
    "stdint.h": "#include <cstdint>\n",
    "stdlib.h": "",  # included by cuda.h
}

# Host calls in headers that kernels include. NVRTC parses their bodies and generates nothing.
HOST_CALLS = """#include <cuda_runtime.h>
template <class... Arguments>
cudaError_t cudaGetDriverEntryPointByVersion(Arguments...);
const char* cudaGetErrorString(cudaError_t);
"""


def kernels_in(ptx: str) -> list[str]:
    """C++ names of the entries of a PTX module, without parameters."""
    symbols = re.findall(r"\.entry (\w+)", ptx)
    names = subprocess.run(["c++filt", "-p", *symbols], check=True, capture_output=True, text=True).stdout.splitlines()
    return [re.sub(r"^void (?=.*<)", "", name) for name in names]


def program_of(source: Path) -> str:
    """The headers that a source file includes, without the host code below them."""
    return "".join(f"{line}\n" for line in source.read_text().splitlines() if line.startswith("#include"))


def compile_to_ptx(home: Path, source: Path, kernels: Sequence[str], arch: str) -> str:
    """Compile kernels of one source file to PTX.

    Args:
        home: Folder with the packages of one CUDA release.
        kernels: C++ names of the instantiations, as `kernels_in` returns them.
        arch: Compute capability, such as 80 or 90a.

    Raises:
        RuntimeError: NVRTC refuses the program; the message holds its log.
    """
    library = ctypes.CDLL(str(home / "nvidia" / "cuda_nvrtc" / "lib" / "libnvrtc.so.12"))
    includes = [build_kernels.ROOT / "csrc", source.parent]
    includes += [home / "nvidia" / f"cuda_{package}" / "include" for package in ("runtime", "cccl")]
    # Functions without an execution space are for the device here. The bodies of host calls are left out.
    options = [f"--gpu-architecture=compute_{arch}", "-std=c++17", "-DNDEBUG", "-lineinfo", "-default-device"]
    options += ["-DPFM_CUDA_PTX_DEVICE_LAUNCH_H_", *(f"-I{folder}" for folder in includes)]
    program = ctypes.c_void_p()
    headers = _strings(list(STANDARD_HEADERS.values()))
    _check(
        library.nvrtcCreateProgram(
            ctypes.byref(program),
            (HOST_CALLS + program_of(source)).encode(),
            str(source).encode(),
            len(STANDARD_HEADERS),
            headers,
            _strings(list(STANDARD_HEADERS)),
        )
    )
    try:
        for kernel in kernels:
            _check(library.nvrtcAddNameExpression(program, kernel.encode()))
        status = library.nvrtcCompileProgram(program, len(options), _strings(options))
        if status != 0:
            log = _text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
            raise RuntimeError(f"NVRTC of {home.name} refused {source.name}: {log}")
        return _text(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _strings(values: Sequence[str]) -> ctypes.Array:
    return (ctypes.c_char_p * len(values))(*(value.encode() for value in values))


def _check(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"NVRTC returned {status}")


def _text(size_of: ctypes._CFuncPtr, text_of: ctypes._CFuncPtr, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(text_of(program, text))
    return text.value.decode()
