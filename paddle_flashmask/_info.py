"""What was built, what this machine runs, and whether the two fit."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
from pathlib import Path

import paddle_flashmask

KERNELS = Path(__file__).resolve().parent / "_kernels.so"
_MODEL_LIBRARIES = ("paddlenlp", "paddleformers")


def _version(*distributions: str) -> str | None:
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _kernels() -> ctypes.CDLL:
    library = ctypes.CDLL(str(KERNELS))
    for name in ("pfm_cpu_isa", "pfm_cuda_architectures", "pfm_last_error"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


def _cuda_device(library: ctypes.CDLL) -> str:
    """What the CUDA kernels of this build can run on here."""
    if not library.pfm_cuda_architectures():
        return "not used: there are no CUDA kernels in this build"
    capability = ctypes.c_int32()
    if library.pfm_cuda_compute_capability(ctypes.byref(capability)) != 0:
        return f"none that the kernels run on: {library.pfm_last_error().decode()}"
    return f"compute capability {capability.value // 10}.{capability.value % 10}"


def collect() -> dict[str, str]:
    """Label -> text, in display order. Never raises for a part that is missing: it says so."""
    lines = {"paddle_flashmask": paddle_flashmask.__version__, "Python": platform.python_version()}
    try:
        from paddle_flashmask import _build_info
    except ImportError:
        lines["built"] = "no: run `pip install --no-build-isolation .` in the source folder"
        return lines
    lines["built for Paddle"] = _build_info.PADDLE_VERSION
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
    lines["GPU"] = _cuda_device(library)
    for name in _MODEL_LIBRARIES:
        lines[name] = _version(name) or "not installed"
    return lines


def _operator_state() -> str:
    from paddle_flashmask import _library

    try:
        _library.load()
    except ImportError as error:
        return f"not loaded: {error}"
    return "loaded"
