"""Stand-in for a GPU over the CPU build of torch and the emulated kernels, so that code for a GPU runs without one.

Tensors of device "cuda" live in host memory, where the emulated kernels may access them. As on a GPU, they mix with no
tensor of the host, and NumPy cannot read them. Time, streams and graphs are imitated as far as the callers need them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from .emulated import EmulatedKernels
from .library import Kernels, Params

GPU = torch.device("cuda", 0)
FREE_BYTES = 80 << 30
_CPU = torch.device("cpu")
_MIXING = ("to", "copy_", "__get__", "__set__")  # operations that may see both devices


def _is_gpu(value: Any) -> bool:
    return (isinstance(value, torch.device) and value.type == "cuda") or (
        isinstance(value, str) and value.split(":")[0] == "cuda"
    )


class GpuTensor(torch.Tensor):
    """Tensor in host memory that claims to be on the GPU."""

    gpu: FakeGpu

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func == torch.Tensor.device.__get__:
            return GPU
        if func == torch.Tensor.is_cuda.__get__:
            return True
        if name == "numpy":
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "data_ptr":
            cls.gpu.register(args[0])
        if name not in _MIXING:
            _expect_one_device(name, args)
        with sdpa_kernel(SDPBackend.MATH) if name == "scaled_dot_product_attention" else contextlib.nullcontext():
            result = super().__torch_function__(func, types, args, kwargs)
        leaves = name == "cpu" or (name == "to" and any(value in (_CPU, "cpu") for value in args[1:]))
        return result.as_subclass(torch.Tensor) if leaves else result


def _expect_one_device(name: str, args: Any) -> None:
    for value in args:
        if isinstance(value, torch.Tensor) and not isinstance(value, GpuTensor) and value.dim():
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, cuda:0 and cpu")


class _OnHost(TorchFunctionMode):
    """Lets calls that name the GPU as their device make tensors of the host."""

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.device or not any(map(_is_gpu, (*args, *kwargs.values()))):
            return func(*args, **kwargs)
        source = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if isinstance(source, GpuTensor):
            source = source.as_subclass(torch.Tensor)
            args = (source, *args[1:])
        elif source is not None:
            args = (source.clone(), *args[1:])  # a copy to the GPU shares no memory
        host = [_CPU if _is_gpu(value) else value for value in args]
        result = func(*host, **{name: _CPU if _is_gpu(value) else value for name, value in kwargs.items()})
        return result.as_subclass(GpuTensor)


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing, "the elapsed time of this event is not kept"
        self._moment: float | None = None

    def record(self) -> None:
        self._moment = time.perf_counter()

    def synchronize(self) -> None:
        assert self._moment is not None, "the event was not recorded"

    def elapsed_time(self, end_event: Event) -> float:
        assert end_event._moment >= self._moment, "the events are in the wrong order"
        return 1e3 * (end_event._moment - self._moment) + 1e-3


class Stream:
    cuda_stream = 0


class Generator:
    """torch.Generator, whose numbers are the host's."""

    make = torch.Generator

    def __new__(cls, device: Any = "cpu") -> Any:
        return cls.make("cpu")


class CUDAGraph:
    """Launches that were captured, to run at a replay."""

    def __init__(self) -> None:
        self.launches: list[Callable[[], None]] = []

    def replay(self) -> None:
        assert self.launches, "nothing was captured"
        for launch in self.launches:
            launch()


class Profile:
    """torch.profiler.profile, whose events are the launches of the C ABI."""

    gpu: FakeGpu

    def __init__(self, *, activities: list[Any]) -> None:
        assert activities == [torch.profiler.ProfilerActivity.CUDA]

    def __enter__(self) -> Profile:
        self._first = len(self.gpu.launched)
        return self

    def __exit__(self, *exception: object) -> None:
        self._last = len(self.gpu.launched)

    def events(self) -> list[FunctionEvent]:
        kinds = torch.autograd.DeviceType
        found = [FunctionEvent(-1, "cudaLaunchKernel", 0, 0, 9, device_type=kinds.CPU)]
        for name, begin, end in self.gpu.launched[self._first : self._last]:
            found.append(FunctionEvent(len(found), name, 0, begin, end, device_type=kinds.CUDA))
        return found


class FakeGpu:
    """State of the stand-in: the memory that the kernels know, and what they launched."""

    def __init__(self, library: Path) -> None:
        self.kernels = EmulatedKernels(library)
        self.kernels.configure(seed=1, compute_capability=90)
        self.launched: list[tuple[str, float, float]] = []  # name, begin and end in us
        self.capturing: CUDAGraph | None = None
        self._memory: dict[int, torch.UntypedStorage] = {}

    def register(self, tensor: torch.Tensor) -> None:
        storage = tensor.as_subclass(torch.Tensor).untyped_storage()
        address = storage.data_ptr()
        if storage.nbytes() and address not in self._memory:
            self._memory[address] = storage  # kept, so that no other tensor gets the address
            self.kernels.register("tensor", address, storage.nbytes(), True)

    def forget(self) -> None:
        for address in self._memory:
            self.kernels.unregister(address)

    @contextlib.contextmanager
    def capture(self, graph: CUDAGraph) -> Iterator[None]:
        self.capturing = graph
        yield
        self.capturing = None

    def launch(self, name: str, real: Callable, kernels: Kernels, params: Params) -> None:
        if self.capturing:
            self.capturing.launches.append(lambda: self.launch(name, real, kernels, params))
            return
        begin = 1e6 * time.perf_counter()
        real(kernels, params)
        self.launched += [(f"PrepareColumns of {name}", begin, begin + 1), (name, begin, 1e6 * time.perf_counter())]


@contextlib.contextmanager
def fake_gpu(library: Path) -> Iterator[FakeGpu]:
    """Make torch, and calls of the C ABI, see a GPU of compute capability 9.0 that runs the emulated kernels."""
    gpu = FakeGpu(library)
    GpuTensor.gpu = Profile.gpu = gpu
    cuda = {
        "is_available": lambda: True,
        "synchronize": lambda device=None: None,
        "current_stream": lambda device=None: Stream(),
        "stream": lambda stream: contextlib.nullcontext(),
        "mem_get_info": lambda device=None: (FREE_BYTES, FREE_BYTES),
        "graph": gpu.capture,
        "_sleep": lambda cycles: None,
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": CUDAGraph,
    }
    with pytest.MonkeyPatch.context() as patch, _OnHost():
        for name, stand_in in cuda.items():
            patch.setattr(torch.cuda, name, stand_in)  # which must exist
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "compile", lambda function, dynamic=None: function)
        patch.setattr(torch.profiler, "profile", Profile)
        for name in ("forward", "backward"):
            real = getattr(Kernels, name)
            patch.setattr(
                Kernels, name, lambda kernels, params, name=name, real=real: gpu.launch(name, real, kernels, params)
            )
        yield gpu
    gpu.forget()
