"""Binding of csrc/flashmask.h with ctypes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

ABI_VERSION = 1
OK, INVALID_ARGUMENT, UNSUPPORTED, WORKSPACE_TOO_SMALL, DEVICE_ERROR = range(5)
DTYPES = {"float32": 0, "bfloat16": 1, "float16": 2}
KNOWN_ISAS = ("portable", "avx2", "avx512_fma256", "avx512")


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("stride_batch", c_int64),
        ("stride_seq", c_int64),
        ("stride_head", c_int64),
    ]


class Params(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("version", c_uint32),
        ("device", c_int32),
        ("dtype", c_int32),
        ("batch", c_int64),
        ("seqlen_q", c_int64),
        ("seqlen_k", c_int64),
        ("heads_q", c_int64),
        ("heads_kv", c_int64),
        ("heads_mask", c_int64),
        ("head_dim", c_int64),
        ("head_dim_v", c_int64),
        ("query", Tensor),
        ("key", Tensor),
        ("value", Tensor),
        ("out", Tensor),
        ("lse", c_void_p),
        ("causal", c_int32),
        ("deterministic", c_int32),
        ("causal_offset", c_int64),
        ("window_left", c_int64),
        ("window_right", c_int64),
        ("startend_row_indices", c_void_p),
        ("startend_bounds", c_int32),
        ("dropout_row", c_int32),
        ("startend_stride_batch", c_int64),
        ("startend_stride_head", c_int64),
        ("block_mask", c_void_p),
        ("block_mask_stride_batch", c_int64),
        ("block_mask_stride_head", c_int64),
        ("learnable_sink", c_void_p),
        ("softmax_scale", c_float),
        ("dropout", c_float),
        ("seed", c_uint64),
        ("offset", c_uint64),
        ("seed_offset", c_void_p),
        ("softcap", c_float),
        ("num_splits", c_int32),
        ("num_workers", c_int32),
        ("dropout_key", c_int32),
        ("stream", c_void_p),
        ("workspace", c_void_p),
        ("workspace_size", c_size_t),
        ("dout", Tensor),
        ("dlse", c_void_p),
        ("dquery", Tensor),
        ("dkey", Tensor),
        ("dvalue", Tensor),
        ("dsink", c_void_p),
    ]


class KernelError(RuntimeError):
    """A pfm_* function did not return PFM_OK."""

    def __init__(self, function: str, status: int, message: str):
        super().__init__(f"{function} returned {status}: {message}")
        self.status = status
        self.message = message


class Kernels:
    """One loaded _kernels.so."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._library = ctypes.CDLL(str(path))
        for name in ("pfm_forward", "pfm_backward"):
            function = getattr(self._library, name)
            function.argtypes, function.restype = [POINTER(Params)], c_int32
            function = getattr(self._library, f"{name}_workspace")
            function.argtypes, function.restype = [POINTER(Params), POINTER(c_size_t)], c_int32
        self._library.pfm_default_cpu_threads.restype = c_int32
        self._library.pfm_cpu_isa.restype = c_char_p
        self._library.pfm_set_cpu_isa.argtypes, self._library.pfm_set_cpu_isa.restype = [c_char_p], c_int32
        self._library.pfm_last_error.restype = c_char_p
        self._library.pfm_cuda_architectures.restype = c_char_p
        self._library.pfm_cuda_compute_capability.argtypes = [POINTER(c_int32)]

    def _check(self, function: str, status: int) -> None:
        if status != OK:
            raise KernelError(function, status, self.last_error())

    def forward(self, params: Params) -> None:
        self._check("pfm_forward", self._library.pfm_forward(ctypes.byref(params)))

    def backward(self, params: Params) -> None:
        self._check("pfm_backward", self._library.pfm_backward(ctypes.byref(params)))

    def forward_workspace(self, params: Params) -> int:
        return self._workspace("pfm_forward_workspace", params)

    def backward_workspace(self, params: Params) -> int:
        return self._workspace("pfm_backward_workspace", params)

    def _workspace(self, function: str, params: Params) -> int:
        size = c_size_t(2**63)
        self._check(function, getattr(self._library, function)(ctypes.byref(params), ctypes.byref(size)))
        return size.value

    def last_error(self) -> str:
        return self._library.pfm_last_error().decode()

    def cuda_architectures(self) -> str:
        return self._library.pfm_cuda_architectures().decode()

    def cuda_compute_capability(self) -> int:
        capability = c_int32()
        status = self._library.pfm_cuda_compute_capability(ctypes.byref(capability))
        self._check("pfm_cuda_compute_capability", status)
        return capability.value

    def set_newest_cuda_kernels(self, compute_capability: int) -> None:
        """Limit CUDA calls to the kernels of 80 or 90, or 0 for no limit."""
        status = self._library.pfm_set_newest_cuda_kernels(c_int32(compute_capability))
        self._check("pfm_set_newest_cuda_kernels", status)

    def default_threads(self) -> int:
        return self._library.pfm_default_cpu_threads()

    def isa(self) -> str:
        return self._library.pfm_cpu_isa().decode()

    def set_isa(self, name: str) -> None:
        """Select an instruction set by name, or the best one with an empty name."""
        self._check("pfm_set_cpu_isa", self._library.pfm_set_cpu_isa(name.encode()))

    def isas(self) -> tuple[str, ...]:
        """Every instruction set that this build offers on this machine."""
        offered = []
        for name in KNOWN_ISAS:
            if self._library.pfm_set_cpu_isa(name.encode()) == OK:
                offered.append(name)
        self.set_isa("")
        return tuple(offered)
