"""Calls of the C ABI on torch tensors: on a GPU, or on the CPU with the CPU kernels."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from .buffers import POISON, strides_of
from .call import params_of
from .library import Kernels, Tensor
from .problem import Problem

TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OUTPUTS = ("out", "lse")
WORKSPACE_ALIGNMENT = 256


def random_inputs(problem: Problem, device: torch.device) -> dict[str, torch.Tensor]:
    """Standard normal inputs in the layout of the problem. Equal seeds give equal values on one device."""
    generator = torch.Generator(device).manual_seed(problem.data_seed)
    dtype = TORCH_DTYPES[problem.dtype]
    B, Sq, Sk = problem.batch, problem.seqlen_q, problem.seqlen_k
    shapes = {
        "query": (B, Sq, problem.heads_q, problem.head_dim),
        "key": (B, Sk, problem.heads_kv, problem.head_dim),
        "value": (B, Sk, problem.heads_kv, problem.head_dim_v),
        "dout": (B, Sq, problem.heads_q, problem.head_dim_v),
    }
    inputs = {}
    for name, shape in shapes.items():
        inputs[name] = empty(problem.layout, shape, dtype, device)
        inputs[name].normal_(generator=generator)
    if problem.sink:
        inputs["sink"] = torch.randn(problem.heads_q, generator=generator, device=device)
    if problem.dlse:
        inputs["dlse"] = torch.randn(B, problem.heads_q, Sq, generator=generator, device=device)
    return inputs


def empty(layout: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.empty_strided(shape, (*strides_of(layout, shape), 1), dtype=dtype, device=device)


class TorchCall:
    """Arrays and parameters of one problem. forward() and backward() only enqueue work on the current stream."""

    no_backward = ""  # as in benchmarks/gpu, where a peer may give a reason

    def __init__(
        self,
        kernels: Kernels,
        problem: Problem,
        inputs: dict[str, torch.Tensor],
        deterministic: bool = False,
        backward: bool = True,
        newest_kernels: int = 0,
    ) -> None:
        """newest_kernels: see Kernels.set_newest_cuda_kernels."""
        self.kernels, self.problem, self.inputs = kernels, problem, inputs
        self.device = inputs["query"].device
        on_gpu = self.device.type == "cuda"
        p = problem
        self.params = params_of(
            problem,
            device=int(on_gpu),
            deterministic=deterministic,
            num_workers=0 if on_gpu else min(8, os.cpu_count() or 1),
        )
        self._masks = [
            self._mask("startend_row_indices", "startend", p.startend),
            self._mask("block_mask", "block_mask", p.block_mask),
        ]
        if p.startend is not None:
            self.params.startend_bounds = p.startend.shape[-1]
        for name in ("query", "key", "value", "dout"):
            setattr(self.params, name, _tensor(inputs[name]))
        for name, field in (("sink", "learnable_sink"), ("dlse", "dlse")):
            if name in inputs:
                setattr(self.params, field, inputs[name].data_ptr())
        self.outputs = self._outputs(backward)
        self._newest_kernels = newest_kernels
        self._choose_kernels()
        sizes = [kernels.forward_workspace(self.params)]
        if backward:
            sizes.append(kernels.backward_workspace(self.params))
        self.reserve(max(sizes))

    def reserve(self, size: int) -> None:
        """Take a workspace of this many bytes."""
        self._memory = torch.empty(size + WORKSPACE_ALIGNMENT, dtype=torch.uint8, device=self.device)
        address = self._memory.data_ptr()
        self.params.workspace = address + -address % WORKSPACE_ALIGNMENT
        self.params.workspace_size = size

    def _mask(self, field: str, prefix: str, values: np.ndarray | None) -> torch.Tensor | None:
        if values is None:
            return None
        on_device = torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
        setattr(self.params, field, on_device.data_ptr())
        setattr(self.params, f"{prefix}_stride_batch", on_device.stride(0))
        setattr(self.params, f"{prefix}_stride_head", on_device.stride(1))
        return on_device

    def _outputs(self, backward: bool) -> dict[str, torch.Tensor]:
        p, dtype = self.problem, TORCH_DTYPES[self.problem.dtype]
        outputs = {"out": empty(p.layout, (p.batch, p.seqlen_q, p.heads_q, p.head_dim_v), dtype, self.device)}
        if backward:
            for name, like in (("dquery", "query"), ("dkey", "key"), ("dvalue", "value")):
                outputs[name] = empty(p.layout, tuple(self.inputs[like].shape), dtype, self.device)
        for name, tensor in outputs.items():
            setattr(self.params, name, _tensor(tensor))
        floats = {"lse": (p.batch, p.heads_q, p.seqlen_q)}
        if p.sink and backward:
            floats["dsink"] = (p.heads_q,)
        for name, shape in floats.items():
            outputs[name] = torch.empty(shape, dtype=torch.float32, device=self.device)
            setattr(self.params, name, outputs[name].data_ptr())
        return outputs

    def poison(self, *names: str) -> None:
        """Fill these outputs (default: all) with NaN, and the workspace with poison."""
        for name in names or self.outputs:
            self.outputs[name].fill_(torch.nan)
        self._memory.fill_(POISON)

    def _enqueue(self, launch: Any) -> None:
        if self.device.type == "cuda":
            self.params.stream = torch.cuda.current_stream().cuda_stream
            self._choose_kernels()
        launch(self.params)

    def _choose_kernels(self) -> None:
        if self.device.type == "cuda":
            self.kernels.set_newest_cuda_kernels(self._newest_kernels)

    def forward(self) -> None:
        self._enqueue(self.kernels.forward)

    def backward(self) -> None:
        self._enqueue(self.kernels.backward)

    def both(self) -> None:
        self.forward()
        self.backward()

    @property
    def out(self) -> torch.Tensor:
        return self.outputs["out"]

    def gradients(self) -> tuple[torch.Tensor, ...]:
        """Gradients of query, key and value, from a new forward and backward."""
        self.both()
        return tuple(self.outputs[name] for name in ("dquery", "dkey", "dvalue"))


def _tensor(tensor: torch.Tensor) -> Tensor:
    return Tensor(tensor.data_ptr(), *tensor.stride()[:3])


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    as_integers = {2: torch.int16, 4: torch.int32}[first.element_size()]
    return torch.equal(first.view(as_integers), second.view(as_integers))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
