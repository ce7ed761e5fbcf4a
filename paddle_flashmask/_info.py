"""What was built, what this machine runs, and whether the two fit."""

from __future__ import annotations

import ctypes
import importlib.metadata
import platform
from pathlib import Path

import paddle_flashmask

KERNELS = Path(__file__).resolve().parent / "_kernels.so"
_MODEL_LIBRARIES = ("paddlenlp",)


def _version(*distributions: str) -> str | None:
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _cpu_kernels() -> tuple[str, int]:
    """(instruction set, threads) that the kernel library chooses in this process."""
    kernels = ctypes.CDLL(str(KERNELS))
    kernels.pfm_cpu_isa.restype = ctypes.c_char_p
    return kernels.pfm_cpu_isa().decode(), kernels.pfm_default_cpu_threads()


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
    isa, threads = _cpu_kernels()
    lines["CPU kernels"] = f"{', '.join(_build_info.CPU_KERNELS)} (chosen here: {isa})"
    lines["CPU threads"] = str(threads)
    lines["CUDA kernels"] = ", ".join(_build_info.CUDA_KERNELS) or "none in this build"
    for library in _MODEL_LIBRARIES:
        lines[library] = _version(library) or "not installed"
    return lines


def _operator_state() -> str:
    from paddle_flashmask import _library

    try:
        _library.load()
    except ImportError as error:
        return f"not loaded: {error}"
    return "loaded"
