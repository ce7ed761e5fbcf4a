"""Loading of the Paddle operator: once per process, and only into a Paddle version that it was built for."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

OP_NAME = "paddle_flashmask_attention"
OP_NAME_SINK = "paddle_flashmask_attention_sink"
OP_NAME_BACKWARD = "paddle_flashmask_attention_backward"
PACKAGE = Path(__file__).resolve().parent
KERNELS = PACKAGE / "_kernels.so"
_BUILD = "`pip install --no-build-isolation --force-reinstall --no-deps .` in the source folder"
_BUILD_TOOLS = "g++ and `pip install setuptools wheel pybind11`"


@functools.cache
def cuda_architectures() -> str:
    """Return the architectures of the CUDA kernels in this build, such as "sm_80 sm_90"; "" without CUDA kernels."""
    library = ctypes.CDLL(str(KERNELS))
    library.pfm_cuda_architectures.restype = ctypes.c_char_p
    return library.pfm_cuda_architectures().decode()


def libraries() -> dict[str, Path]:
    """Return the operator libraries of this installation by the full Paddle version that each was built for.

    A wheel has one for each of several versions, a build from source one for the Paddle that was installed then
    (setup.py). Raises ImportError where the package is not built.
    """
    try:
        from paddle_flashmask import _build_info
    except ImportError as error:
        raise ImportError(
            f"paddle_flashmask is not built in {PACKAGE}. If it is installed, start Python outside of the source "
            f"folder; otherwise run {_BUILD}; this needs {_BUILD_TOOLS}"
        ) from error
    in_wheel = {library.stem: library for library in sorted((PACKAGE / "_ops").glob("*.so"))}
    return in_wheel or {_build_info.PADDLE_VERSION: PACKAGE / "_ops.so"}


def find_library(paddle_version: str) -> Path:
    """Return the library for this full Paddle version. Raises ImportError without one: Paddle's C++ interface changes
    between releases."""
    built = libraries()
    if paddle_version not in built:
        raise ImportError(
            f"paddle_flashmask was built for Paddle {' and '.join(built)}, but Paddle {paddle_version} is installed. "
            f"Paddle's C++ interface changes between releases: install Paddle {' or '.join(built)}, or rebuild with "
            f"{_BUILD}; this needs {_BUILD_TOOLS}"
        )
    return built[paddle_version]


def _is_mapped(library: Path) -> bool:
    maps = Path("/proc/self/maps")
    return maps.exists() and any(line.rstrip().endswith(str(library)) for line in maps.read_text().splitlines())


def load() -> None:
    """Register the operator with Paddle.

    Raises ImportError if Paddle is missing, has a version that there is no library for, or already has an operator of
    this name from another file. (Paddle aborts the process on a second registration.)
    """
    try:
        import paddle
    except ModuleNotFoundError as error:
        if error.name != "paddle":
            raise
        raise ImportError(
            "paddle_flashmask needs PaddlePaddle, which is not installed: `pip install paddlepaddle==VERSION`, or "
            f"paddlepaddle-gpu, with the version that this package was built for: {' or '.join(libraries())}"
        ) from error
    from paddle.base.framework import OpProtoHolder
    from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

    library = find_library(paddle.version.full_version)
    if OP_NAME in OpProtoHolder.instance().op_proto_map:
        if _is_mapped(library):
            return
        raise ImportError(
            f"another library has already registered the Paddle operator {OP_NAME!r}; {library} cannot be loaded "
            "beside it in one process"
        )
    load_op_meta_info_and_register_op(str(library))  # absolute: a bare name is searched in LD_LIBRARY_PATH


def run(op_name: str, *arguments: Any) -> list[Any]:
    """Return the outputs of an operator. The arguments are its inputs, then its attributes, as in csrc/paddle_op.cc."""
    from paddle import _C_ops

    return _C_ops._run_custom_op(op_name, *arguments)
