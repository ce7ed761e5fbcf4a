"""Devices that run the problems of tests/support: a GPU through the CUDA driver API, or the emulator."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from support.buffers import GUARD_BYTES, POISON
from support.call import Call
from support.dense import GRADIENTS
from support.emulated import EmulatedCall, EmulatedKernels
from support.library import Kernels, Params, Tensor
from support.problem import Problem

from .outcome import DeviceLost, NotRun
from .plan import Settings

CUDA = 1
_DRIVERS = ("libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1", "/usr/local/nvidia/lib/libcuda.so.1")


# Compute capabilities of the kernel sets that a device of 9.0 can run.
KERNELS_OF_90 = (90, 80)


class Device(Protocol):
    kernels: Kernels

    def call(
        self, problem: Problem, deterministic: bool = False, workers: int = 0, gradients: tuple[str, ...] = GRADIENTS
    ) -> Call:
        """Call whose arrays are accessible to this device.

        Args:
            workers: number of multiprocessors to plan for; 0 for those of the device.
            gradients: results of the backward; the kernels skip the others.
        """
        ...

    def newest_kernels(self) -> Iterator[int]:
        """Select each kernel set that this device can run in turn, and yield its compute capability (90, 80)."""
        ...


def each_newest_kernels(kernels: Kernels) -> Iterator[int]:
    if kernels.cuda_compute_capability() != 90:
        yield 80
        return
    try:
        for newest in KERNELS_OF_90:
            kernels.set_newest_cuda_kernels(newest)
            yield newest
    finally:
        kernels.set_newest_cuda_kernels(0)


@contextmanager
def with_generation(kernels: Kernels, generation: int) -> Iterator[None]:
    """Limit calls to the kernels of this compute capability. Raises NotRun where the device cannot run them."""
    capability = kernels.cuda_compute_capability()
    if capability != 90:
        if generation == 90:
            raise NotRun(f"the device has compute capability {capability / 10}")
        yield
        return
    try:
        kernels.set_newest_cuda_kernels(generation)
        yield
    finally:
        kernels.set_newest_cuda_kernels(0)


def open_device(settings: Settings) -> Device:
    """Raises NotRun where there is no GPU driver."""
    return EmulatedDevice(settings.library) if settings.emulated else CudaDevice(settings.library)


class EmulatedDevice:
    """CUDA kernels on the CPU. The emulator itself checks every access."""

    def __init__(self, library: Path) -> None:
        self.kernels = EmulatedKernels(library)
        self.kernels.configure(seed=1, compute_capability=90)

    def call(
        self, problem: Problem, deterministic: bool = False, workers: int = 0, gradients: tuple[str, ...] = GRADIENTS
    ) -> Call:
        return EmulatedCall(self.kernels, problem, deterministic, workers, gradients)

    def newest_kernels(self) -> Iterator[int]:
        return each_newest_kernels(self.kernels)


class CudaDevice:
    """The first GPU, with one cuMemAlloc allocation per array."""

    def __init__(self, library: Path, guard_bytes: int = GUARD_BYTES, poison: bool = True) -> None:
        """
        Args:
            guard_bytes: size of the guard on either side of an array; 0 lets a memory checker see its bounds.
            poison: fill outputs and workspace; False lets a checker of uninitialised memory see them unwritten.
        """
        self.kernels = Kernels(library)
        self.guard_bytes = guard_bytes
        self.poison = poison
        self._driver = load_driver()
        context, device = c_void_p(), c_int()
        self.check("cuInit", c_uint(0))
        self.check("cuDeviceGet", byref(device), c_int(0))
        self.check("cuDevicePrimaryCtxRetain", byref(context), device)
        self.check("cuCtxSetCurrent", context)

    def call(
        self, problem: Problem, deterministic: bool = False, workers: int = 0, gradients: tuple[str, ...] = GRADIENTS
    ) -> Call:
        return CudaCall(self, problem, deterministic, workers, gradients)

    def newest_kernels(self) -> Iterator[int]:
        return each_newest_kernels(self.kernels)

    def check(self, function: str, *arguments: Any) -> None:
        """Call a driver function. Raises DeviceLost on an error, which here can only come from an earlier kernel."""
        status = getattr(self._driver, function)(*arguments)
        if status:
            text = c_char_p()
            self._driver.cuGetErrorString(c_int(status), byref(text))
            raise DeviceLost(f"{function} returned {status}: {(text.value or b'unknown').decode()}")

    def synchronize(self) -> None:
        self.check("cuCtxSynchronize")

    def allocate(self, size: int) -> DeviceArray:
        return DeviceArray(self, size)


class DeviceArray:
    """Device memory between two guards."""

    def __init__(self, device: CudaDevice, size: int) -> None:
        self._device, self._size, self._guard = device, size, device.guard_bytes
        self._base = c_uint64()
        device.check("cuMemAlloc_v2", byref(self._base), c_size_t(size + 2 * self._guard or 1))
        self.address = self._base.value + self._guard
        for start in (self._base.value, self.address + size):
            self._fill(start, self._guard)

    def _fill(self, address: int, size: int) -> None:
        if size:
            self._device.check("cuMemsetD8_v2", c_uint64(address), ctypes.c_ubyte(POISON), c_size_t(size))

    def fill(self) -> None:
        self._fill(self.address, self._size)

    def upload(self, host_address: int) -> None:
        if self._size:
            self._device.check("cuMemcpyHtoD_v2", c_uint64(self.address), c_void_p(host_address), c_size_t(self._size))

    def download(self, host_address: int, address: int | None = None, size: int | None = None) -> None:
        address = self.address if address is None else address
        size = self._size if size is None else size
        if size:
            self._device.check("cuMemcpyDtoH_v2", c_void_p(host_address), c_uint64(address), c_size_t(size))

    def check_guards(self, name: str) -> None:
        guard = np.empty(self._guard, np.uint8)
        for side, start in (("before", self._base.value), ("after", self.address + self._size)):
            self.download(guard.ctypes.data, start, self._guard)
            if (guard != POISON).any():
                raise AssertionError(f"{name}: {np.count_nonzero(guard != POISON)} bytes {side} it were overwritten")

    def free(self) -> None:
        self._device.check("cuMemFree_v2", self._base)


class CudaCall(Call):
    """Call that copies every array to the GPU before a launch and back after it, where Call checks them."""

    def __init__(
        self, device: CudaDevice, problem: Problem, deterministic: bool, workers: int, gradients: tuple[str, ...]
    ) -> None:
        super().__init__(device.kernels, problem, workers, gradients)
        self._device = device
        self.params.device = CUDA
        self.params.deterministic = deterministic

    def _run(self, workspace_size: Any, launch: Any, written: tuple[str, ...]) -> None:
        def launch_on_device(params: Params) -> None:
            with self._on_device(params, written):
                launch(params)
                self._device.synchronize()

        super()._run(workspace_size, launch_on_device, written)

    @contextmanager
    def _on_device(self, params: Params, written: tuple[str, ...]) -> Iterator[None]:
        hosts = {name: (array.address, array.size) for name, (array, _) in self._inputs.items()}
        hosts |= {name: (array.address, array.size) for name, array in self._outputs.items()}
        hosts["workspace"] = params.workspace, params.workspace_size
        arrays: dict[str, DeviceArray] = {}
        for name, (address, size) in hosts.items():
            arrays[name] = self._device.allocate(size)
            untouched = name == "workspace" or name in written
            if not untouched or (self._device.poison and name != "workspace"):
                arrays[name].upload(address)
            elif self._device.poison:
                arrays[name].fill()
            _set_address(params, name, arrays[name].address)
        self._device.synchronize()
        yield  # after a failed launch nothing is copied back or freed
        for name, (address, _) in hosts.items():
            arrays[name].check_guards(name)
            if name != "workspace":
                arrays[name].download(address)
            _set_address(params, name, address)
            arrays[name].free()


def _set_address(params: Params, name: str, address: int) -> None:
    field = getattr(params, name)
    if isinstance(field, Tensor):
        field.data = address
    else:
        setattr(params, name, address)


def load_driver() -> ctypes.CDLL:
    """Raises NotRun where there is no GPU driver."""
    for path in _DRIVERS:
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    raise NotRun("no GPU driver: libcuda.so.1 was not found")
