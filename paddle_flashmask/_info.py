"""Description of this build and of the kernels that run on this machine."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
import re

import paddle_flashmask
from paddle_flashmask import _library

# NVIDIA driver branch that each CUDA major version needs at least: "CUDA Compatibility", section "Minor Version
# Compatibility" (docs.nvidia.com/deploy/cuda-compatibility).
_OLDEST_DRIVERS = {12: 525, 13: 580}
_MODEL_LIBRARIES = ("paddlenlp", "paddleformers")


def _version(*distributions: str) -> str | None:
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _kernels() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_library.KERNELS))
    for name in ("pfm_cpu_isa", "pfm_cuda_architectures", "pfm_last_error"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


def needed_driver(cuda_compiler: str) -> str:
    """Name the NVIDIA driver that kernels need, given the version line of the nvcc that compiled them."""
    release = re.search(r"release (\d+)\.(\d+)", cuda_compiler)
    oldest = _OLDEST_DRIVERS.get(int(release[1])) if release else None
    if oldest is None:
        return f"that of the CUDA toolkit which compiled the kernels ({cuda_compiler})"
    return f"R{oldest} or later (CUDA {release[1]}); after 9.0 that of CUDA {release[1]}.{release[2]}, for its PTX"


def _cuda_device(library: ctypes.CDLL) -> str:
    """Describe the GPU that the CUDA kernels of this build use."""
    if not library.pfm_cuda_architectures():
        return "not used: there are no CUDA kernels in this build"
    capability = ctypes.c_int32()
    if library.pfm_cuda_compute_capability(ctypes.byref(capability)) != 0:
        return f"none that the kernels run on: {library.pfm_last_error().decode()}"
    return f"compute capability {capability.value // 10}.{capability.value % 10}"


def collect() -> dict[str, str]:
    """Return text by label, in display order. A missing part is described, not raised."""
    lines = {"paddle_flashmask": paddle_flashmask.__version__, "Python": platform.python_version()}
    try:
        lines["built for Paddle"] = ", ".join(_library.libraries())
    except ImportError as error:
        return {**lines, "built": f"no: {error}"}
    from paddle_flashmask import _build_info

    lines["built by"] = _build_info.COMPILER
    found = _version("paddlepaddle", "paddlepaddle-gpu")
    lines["Paddle found"] = found or "none: install paddlepaddle"
    lines["operator"] = _operator_state()
    library = _kernels()
    lines["CPU kernels"] = f"{', '.join(_build_info.CPU_KERNELS)} (chosen here: {library.pfm_cpu_isa().decode()})"
    lines["CPU threads"] = (
        f"{library.pfm_default_cpu_threads()} (OMP_NUM_THREADS; Paddle sets it to 1 where it is not set)"
    )
    architectures = library.pfm_cuda_architectures().decode()
    lines["CUDA kernels"] = f"{architectures} ({_build_info.CUDA_COMPILER})" if architectures else "none in this build"
    if architectures:
        lines["NVIDIA driver needed"] = needed_driver(_build_info.CUDA_COMPILER)
    lines["GPU"] = _cuda_device(library)
    for name in _MODEL_LIBRARIES:
        lines[name] = _version(name) or "not installed"
    return lines


def _operator_state() -> str:
    try:
        _library.load()
    except ImportError as error:
        return f"not loaded: {error}"
    return "loaded"
