"""C ABI of the emulated CUDA kernels, and calls whose arrays are registered with the emulator."""

from __future__ import annotations

import contextlib
import os
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools import build_kernels

from .buffers import ALIGNMENT
from .call import Call
from .dense import GRADIENTS
from .library import Kernels, Params
from .problem import Problem
from .repository import REPOSITORY

LIBRARY = REPOSITORY / "build" / "emulated" / "_kernels.so"

WARPS = 32  # of a block, at most
CUDA = 1
KIBIBYTE = 1024
SHARED_SMALL, SHARED_MEDIUM, SHARED_LARGE = 99 * KIBIBYTE, 163 * KIBIBYTE, 227 * KIBIBYTE


def emulated_library() -> Path:
    """Path of the kernel library for the emulator, built from the current sources."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        build_kernels.build_kernel_library(LIBRARY, None, (), emulated=True)
    return LIBRARY


@dataclass(frozen=True)
class LaunchCounts:
    """What a launch does about latency (tests/emulator/counts.h).

    bytes_in_flight: the most that asynchronous copies of a block had in flight. loads: per warp, the most loads from
    global memory that a thread of any block waited for.
    """

    blocks: int
    threads: int
    bytes_in_flight: int
    loads: tuple[int, ...]


class EmulatedKernels(Kernels):
    """Kernel library with an emulated GPU."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._library.pfm_emulator_configure.argtypes = [c_uint64, c_int, c_int, c_int]
        self._library.pfm_emulator_register.argtypes = [c_void_p, c_size_t, c_char_p, c_int]
        self._library.pfm_emulator_unregister.argtypes = [c_void_p]
        self._library.pfm_emulator_arrays.argtypes = [c_void_p, c_size_t, c_size_t]
        self._library.pfm_emulator_arrays.restype = c_size_t
        self._library.pfm_emulator_warpgroup_products.restype = c_int64
        self._library.pfm_emulator_counts.argtypes = [c_void_p, c_size_t]
        self._library.pfm_emulator_counts.restype = c_size_t

    def configure(self, seed: int = 0, compute_capability: int = 80, shared_limit: int = SHARED_LARGE) -> None:
        """Set up the GPU. seed: of the random order in which threads run and copies complete."""
        self._library.pfm_emulator_configure(seed, 3, compute_capability, shared_limit)

    def launches(self) -> list[LaunchCounts]:
        """Counts of every launch since `configure`, oldest first."""
        words = np.zeros((self._library.pfm_emulator_counts(None, 0), 3 + WARPS), np.int64)
        self._library.pfm_emulator_counts(words.ctypes.data, len(words))
        return [LaunchCounts(*map(int, row[:3]), tuple(map(int, row[3 : 3 + row[1] // 32]))) for row in words]

    def warpgroup_products(self) -> int:
        """Number of warpgroup matrix instructions in all launches so far."""
        return self._library.pfm_emulator_warpgroup_products()

    def register(self, name: str, address: int, size: int, written: bool) -> None:
        """Make an array known. written: whether it holds values; reading unwritten bytes is an error."""
        self._library.pfm_emulator_register(address, size, name.encode(), written)

    def unregister(self, address: int) -> None:
        self._library.pfm_emulator_unregister(address)

    def arrays(self) -> np.ndarray:
        """Arrays of the last call's workspace, while it is registered, as words.

        Each starts at a multiple of 256 bytes, as on a GPU. In the emulated workspace they have gaps between them.
        """
        words = np.empty(self._library.pfm_emulator_arrays(None, 0, ALIGNMENT) // 4, np.uint32)
        self._library.pfm_emulator_arrays(words.ctypes.data, words.nbytes, ALIGNMENT)
        return words


class EmulatedCall(Call):
    """Call in which the kernels may access the arrays of the problem and the workspace only."""

    def __init__(
        self,
        kernels: EmulatedKernels,
        problem: Problem,
        deterministic: bool = False,
        multiprocessors: int = 0,
        gradients: tuple[str, ...] = GRADIENTS,
    ):
        super().__init__(kernels, problem, multiprocessors, gradients)
        self.params.device = CUDA
        self.params.deterministic = deterministic

    def _run(self, workspace_size, launch, written: tuple[str, ...]) -> None:
        def launch_with_known_memory(params: Params) -> None:
            known = [(name, array.address, array.size, True) for name, (array, _) in self._inputs.items()]
            known += [(name, array.address, array.size, name not in written) for name, array in self._outputs.items()]
            known.append(("workspace", params.workspace, params.workspace_size, False))
            known = [entry for entry in known if entry[2]]
            for entry in known:
                self.kernels.register(*entry)
            try:
                launch(params)
            finally:
                for _, address, _, _ in known:
                    self.kernels.unregister(address)

        super()._run(workspace_size, launch_with_known_memory, written)
