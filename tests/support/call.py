"""Calls of the C ABI on poisoned, guarded arrays."""

from __future__ import annotations

import ctypes

import numpy as np

from .buffers import GuardedArray, guarded_copy, strides_of
from .dense import GRADIENTS
from .dtypes import STORAGE, decode, encode
from .library import ABI_VERSION, DTYPES, Kernels, Params, Tensor
from .problem import Problem

_ROW_TENSORS = ("query", "key", "value", "dout")


def params_of(problem: Problem, **others: int) -> Params:
    """Parameters of a problem without its pointers. others: further fields of Params."""
    p = problem
    return Params(
        struct_size=ctypes.sizeof(Params),
        version=ABI_VERSION,
        dtype=DTYPES[p.dtype],
        batch=p.batch,
        seqlen_q=p.seqlen_q,
        seqlen_k=p.seqlen_k,
        heads_q=p.heads_q,
        heads_kv=p.heads_kv,
        heads_mask=p.heads_mask,
        head_dim=p.head_dim,
        head_dim_v=p.head_dim_v,
        causal=p.causal,
        causal_offset=p.offset_of_diagonal,
        window_left=p.window[0],
        window_right=p.window[1],
        softmax_scale=p.scale,
        dropout=p.dropout,
        dropout_row=p.dropout_place[0],
        dropout_key=p.dropout_place[1],
        seed=p.seed,
        offset=p.offset,
        **others,
    )


class Call:
    """Arrays and parameters of one problem. forward() and backward() may be repeated."""

    def __init__(self, kernels: Kernels, problem: Problem, workers: int = 1, gradients: tuple[str, ...] = GRADIENTS):
        self.kernels = kernels
        self.problem = problem
        self._shift = 1 if problem.layout == "padded" else 0
        self._inputs: dict[str, tuple[GuardedArray, np.ndarray]] = {}
        self._outputs: dict[str, GuardedArray] = {}
        p = problem
        self.params = params_of(problem, num_workers=workers)
        for name in _ROW_TENSORS:
            self._row_input(name, encode(p.inputs[name], p.dtype))
        if p.startend is not None:
            self.params.startend_bounds = p.startend.shape[-1]
            self._mask_input("startend_row_indices", "startend", p.startend)
        if p.block_mask is not None:
            self._mask_input("block_mask", "block_mask", p.block_mask)
        if p.sink:
            self._flat_input("learnable_sink", p.inputs["sink"])
        if p.dlse:
            self._flat_input("dlse", p.inputs["dlse"])
        self._row_output("out", (p.batch, p.seqlen_q, p.heads_q, p.head_dim_v))
        self._flat_output("lse", (p.batch, p.heads_q, p.seqlen_q))
        for name, like in (("dquery", "query"), ("dkey", "key"), ("dvalue", "value")):
            if name in gradients:
                self._row_output(name, p.inputs[like].shape)
        if p.sink and "dsink" in gradients:
            self._flat_output("dsink", (p.heads_q,))

    def _tensor(self, guarded: GuardedArray) -> Tensor:
        return Tensor(guarded.address, *guarded.strides[:3])

    def _row_input(self, name: str, values: np.ndarray) -> None:
        guarded = guarded_copy(values, (*strides_of(self.problem.layout, values.shape), 1), self._shift)
        self._inputs[name] = guarded, values
        setattr(self.params, name, self._tensor(guarded))

    def _flat_input(self, name: str, values: np.ndarray) -> None:
        guarded = guarded_copy(values)
        self._inputs[name] = guarded, values
        setattr(self.params, name, guarded.address)

    def _mask_input(self, name: str, prefix: str, values: np.ndarray) -> None:
        assert values.dtype == np.int32
        guarded = guarded_copy(values)
        self._inputs[name] = guarded, values
        setattr(self.params, name, guarded.address)
        setattr(self.params, f"{prefix}_stride_batch", guarded.strides[0])
        setattr(self.params, f"{prefix}_stride_head", guarded.strides[1])

    def _row_output(self, name: str, shape: tuple[int, int, int, int]) -> None:
        strides = (*strides_of(self.problem.layout, shape), 1)
        self._outputs[name] = GuardedArray(shape, STORAGE[self.problem.dtype], strides, self._shift)
        setattr(self.params, name, self._tensor(self._outputs[name]))

    def _flat_output(self, name: str, shape: tuple[int, ...]) -> None:
        self._outputs[name] = GuardedArray(shape, np.float32)
        setattr(self.params, name, self._outputs[name].address)

    def pointer_seed(self) -> None:
        """Pass seed and offset in memory from now on, and wrong values in the parameters."""
        values = np.array([self.problem.seed, self.problem.offset], dtype=np.uint64)
        self._inputs["seed_offset"] = guarded_copy(values), values
        self.params.seed_offset = self._inputs["seed_offset"][0].address
        self.params.seed, self.params.offset = 1, 2

    def forward(self) -> dict[str, np.ndarray]:
        self._run(self.kernels.forward_workspace, self.kernels.forward, ("out", "lse"))
        return self.results(("out", "lse"))

    def backward(self) -> dict[str, np.ndarray]:
        names = tuple(name for name in GRADIENTS if name in self._outputs)
        self._run(self.kernels.backward_workspace, self.kernels.backward, names)
        return self.results(names)

    def _run(self, workspace_size, launch, written: tuple[str, ...]) -> None:
        for name in written:
            self._outputs[name].array[...] = _poison(self._outputs[name].array.dtype)
        workspace = GuardedArray((workspace_size(self.params),), np.uint8)
        self.params.workspace = workspace.address
        self.params.workspace_size = workspace.array.size
        guarded = [workspace, *self._outputs.values(), *(array for array, _ in self._inputs.values())]
        for array in guarded:
            array.seal()
        try:
            launch(self.params)
        finally:
            for array in guarded:
                array.unseal()
        workspace.check("workspace")
        for name in self._outputs:
            self._outputs[name].check(name)
        for name, (guarded, values) in self._inputs.items():
            guarded.check(name)
            same = np.ascontiguousarray(guarded.array).tobytes() == np.ascontiguousarray(values).tobytes()
            assert same, f"the call changed its input {name}"

    def results(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        found = {}
        for name in names:
            dtype = "float32" if name in ("lse", "dsink") else self.problem.dtype
            found[name] = decode(self._outputs[name].array, dtype)
        return found


def _poison(storage: np.dtype) -> np.generic:
    return np.frombuffer(b"\xff" * storage.itemsize, dtype=storage)[0]


def run(
    kernels: Kernels, problem: Problem, workers: int = 1, gradients: tuple[str, ...] = GRADIENTS
) -> dict[str, np.ndarray]:
    """Results of one forward and one backward, as float32 arrays; float32 results keep their bits."""
    call = Call(kernels, problem, workers, gradients)
    return {**call.forward(), **call.backward()}
