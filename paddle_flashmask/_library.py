"""Loading of the Paddle operator: once per process, and only into the Paddle version that it was built for."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

OP_NAME = "paddle_flashmask_attention"
OP_NAME_SINK = "paddle_flashmask_attention_sink"
OP_NAME_BACKWARD = "paddle_flashmask_attention_backward"
LIBRARY = Path(__file__).resolve().parent / "_ops.so"
KERNELS = Path(__file__).resolve().parent / "_kernels.so"


@functools.cache
def cuda_architectures() -> str:
    """Return the architectures of the CUDA kernels in this build, such as "sm_80 sm_90"; "" without CUDA kernels."""
    library = ctypes.CDLL(str(KERNELS))
    library.pfm_cuda_architectures.restype = ctypes.c_char_p
    return library.pfm_cuda_architectures().decode()


def check_paddle_version(built_for: str, found: str) -> None:
    """Raise ImportError unless both full versions are equal: Paddle's C++ interface changes between releases."""
    if built_for != found:
        raise ImportError(
            f"paddle_flashmask was built for Paddle {built_for}, but Paddle {found} is installed. Paddle's C++ "
            "interface changes between releases: rebuild with `pip install --no-build-isolation --force-reinstall "
            "--no-deps .` in the source folder"
        )


def _is_mapped(library: Path) -> bool:
    maps = Path("/proc/self/maps")
    return maps.exists() and any(line.rstrip().endswith(str(library)) for line in maps.read_text().splitlines())


def load() -> None:
    """Register the operator with Paddle.

    Raises ImportError if Paddle is missing, has another version than the build, or already has an operator of this name
    from another file. (Paddle aborts the process on a second registration.)
    """
    try:
        import paddle
    except ModuleNotFoundError as error:
        if error.name != "paddle":
            raise
        raise ImportError(
            "paddle_flashmask needs PaddlePaddle: install paddlepaddle (or paddlepaddle-gpu), then rebuild this package"
        ) from error
    try:
        from paddle_flashmask import _build_info
    except ImportError as error:
        raise ImportError(
            "paddle_flashmask is not built: run `pip install --no-build-isolation .` (or `-e .`) in the source folder"
        ) from error
    from paddle.base.framework import OpProtoHolder
    from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

    check_paddle_version(_build_info.PADDLE_VERSION, paddle.version.full_version)
    if OP_NAME in OpProtoHolder.instance().op_proto_map:
        if _is_mapped(LIBRARY):
            return
        raise ImportError(
            f"another library has already registered the Paddle operator {OP_NAME!r}; {LIBRARY} cannot be loaded "
            "beside it in one process"
        )
    load_op_meta_info_and_register_op(str(LIBRARY))  # absolute: a bare name is searched in LD_LIBRARY_PATH


def run(op_name: str, *arguments: Any) -> list[Any]:
    """Return the outputs of an operator. The arguments are its inputs, then its attributes, as in csrc/paddle_op.cc."""
    from paddle import _C_ops

    return _C_ops._run_custom_op(op_name, *arguments)
