"""Comparisons over torch tensors, which large.py and determinism.py list as cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import mask_samples
from support.compare import Expectation
from support.library import Kernels
from support.problem import Problem
from support.torch_call import OUTPUTS, TORCH_DTYPES, TorchCall, random_inputs, same_bits, synchronize
from support.torch_reference import TorchExpectation

from .cases import grid, problem_of
from .grid import judge
from .large_problems import huge_problem
from .outcome import NotRun

REPLAYS = 20
BUSY_SEQLEN = {"cuda": 1000, "cpu": 100}
BUSY: dict[str, Any] = {"heads_q": 8, "heads_kv": 2, "head_dim": 128, "head_dim_v": 128}
NOISE_SIZE = 2048  # of matrix products beside our kernels
AGREEING = 8  # problems on which the two references are compared
_BYTES_NEEDED = 50 << 30  # for many_elements: four tensors of 4.25 GiB, the sums of dquery, the float64 reference


class Checks:
    def __init__(self, library: Path, device: torch.device) -> None:
        self.kernels, self.device = Kernels(library), device
        torch.backends.cuda.matmul.allow_tf32 = False  # the reference is float32 or float64

    def call(self, problem: Problem, deterministic: bool = False) -> TorchCall:
        return TorchCall(self.kernels, problem, random_inputs(problem, self.device), deterministic)

    def check(self, problem: Problem, deterministic: bool = False) -> None:
        call = self.call(problem, deterministic)
        self._run_poisoned(call)
        self._judge(TorchExpectation(problem, call.inputs), call)

    def _judge(self, expectation: TorchExpectation, call: TorchCall) -> None:
        judge(expectation, expectation.chosen(call.outputs), f"of (batch, key head) {expectation.heads}")

    def reference_agrees(self) -> dict[str, Any]:
        """Compare the torch reference, used at real sizes, with the NumPy reference of the grid."""
        rows = grid()
        choices = rows[:: len(rows) // AGREEING][:AGREEING]
        for choice in choices:
            problem = problem_of(choice | {"batch": 1, "size": (130, 150), "layout": "packed"})
            inputs = {name: torch.from_numpy(values.copy()) for name, values in problem.inputs.items()}
            for name in ("query", "key", "value", "dout"):
                inputs[name] = inputs[name].to(TORCH_DTYPES[problem.dtype])
            inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
            expected = Expectation(problem).truth
            TorchExpectation(problem, inputs).expect(expected, tolerance=1e-9)
        return {"problems": len(choices)}

    def _run_poisoned(self, call: TorchCall) -> None:
        call.poison()
        call.forward()
        call.poison(*(name for name in call.outputs if name not in OUTPUTS))
        call.backward()
        synchronize(self.device)

    def busy_problem(self, seed: int = 0, **changes: Any) -> Problem:
        """Problem with every feature that depends on timing: ragged rows, dropout, a sink, grouped heads."""
        size = BUSY_SEQLEN[self.device.type]
        fields = BUSY | {"dtype": "bfloat16", "dropout": 0.1}
        startend, causal = mask_samples.sample_mask("random_4", np.random.default_rng(seed), 1, 1, size, size)
        return Problem(
            seqlen_q=size,
            seqlen_k=size,
            startend=startend,
            causal=causal,
            sink=True,
            dlse=True,
            data_seed=seed,
            **(fields | changes),
        )

    def many_elements(self) -> dict[str, Any]:
        on_gpu = self.device.type == "cuda"
        if on_gpu and torch.cuda.mem_get_info()[0] < _BYTES_NEEDED:
            raise NotRun(f"{_BYTES_NEEDED >> 30} GiB of free GPU memory are needed")
        problem = huge_problem(tiny=not on_gpu)
        call = self.call(problem)
        self._run_poisoned(call)
        heads = [(0, problem.heads_kv - 1)]  # the last head lies beyond 2^31 elements in every row's stride
        self._judge(TorchExpectation(problem, call.inputs, heads), call)
        figures = {"elements": call.outputs["out"].numel()}
        for name, tensor in call.outputs.items():
            assert bool(torch.isfinite(tensor.view(-1)[-(1 << 20) :]).all()), f"{name}: the last elements are unwritten"
        return figures

    def graph_replays(self, dropout: float) -> dict[str, Any]:
        if self.device.type != "cuda":
            raise NotRun("no CUDA graphs without a GPU")
        call = self.call(self.busy_problem(dropout=dropout), deterministic=True)
        self._run_poisoned(call)
        expected = {name: tensor.clone() for name, tensor in call.outputs.items()}
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            call.both()
        for replay in range(REPLAYS):
            call.poison()
            graph.replay()
            torch.cuda.synchronize()
            self._expect_bits(expected, call.outputs, f"in replay {replay}")
        return {"replays": REPLAYS}

    def two_streams(self, dropout: float) -> dict[str, Any]:
        if self.device.type != "cuda":
            raise NotRun("no streams without a GPU")
        calls = [self.call(self.busy_problem(seed, dropout=dropout), deterministic=True) for seed in (1, 2)]
        expected = []
        for call in calls:
            self._run_poisoned(call)
            expected.append({name: tensor.clone() for name, tensor in call.outputs.items()})
        streams = [torch.cuda.Stream() for _ in calls]
        rounds = REPLAYS
        for turn in range(rounds):
            for call in calls:
                call.poison()
            torch.cuda.synchronize()
            for _ in range(5):
                for call, stream in zip(calls, streams, strict=True):
                    with torch.cuda.stream(stream):
                        call.both()
            torch.cuda.synchronize()
            for call, bits in zip(calls, expected, strict=True):
                self._expect_bits(bits, call.outputs, f"beside another stream, round {turn}")
        return {"rounds": rounds}

    def pointer_seed(self) -> None:
        call = self.call(self.busy_problem(), deterministic=True)
        self._run_poisoned(call)
        expected = {name: tensor.clone() for name, tensor in call.outputs.items()}
        values = np.array([call.problem.seed, call.problem.offset], np.uint64).view(np.int64)
        seed_offset = torch.from_numpy(values).to(self.device)
        call.params.seed_offset = seed_offset.data_ptr()
        call.params.seed, call.params.offset = 1, 2
        self._run_poisoned(call)
        self._expect_bits(expected, call.outputs, "when seed and offset are read from memory")

    def repeat(self, problem: Problem, repetitions: int) -> dict[str, Any]:
        """Expect the same bits from every repetition, with concurrent work on the GPU in every second one."""
        call = self.call(problem, deterministic=True)
        self._run_poisoned(call)
        expected = {name: tensor.clone() for name, tensor in call.outputs.items()}
        side = torch.cuda.Stream() if self.device.type == "cuda" else None
        noise = torch.randn(NOISE_SIZE, NOISE_SIZE, device=self.device) if side else None
        for repetition in range(repetitions):
            if side and repetition % 2:
                with torch.cuda.stream(side):
                    noise = torch.tanh(noise @ noise)
            call.poison()
            call.both()
            self._expect_bits(expected, call.outputs, f"in repetition {repetition}")
        return {"repetitions": repetitions}

    def _expect_bits(self, expected: dict[str, torch.Tensor], got: dict[str, torch.Tensor], context: str) -> None:
        for name, tensor in expected.items():
            assert not bool(torch.isnan(got[name]).any()), f"{name} holds NaN {context}"
            if not same_bits(tensor, got[name]):
                differing = int((tensor != got[name]).sum())
                raise AssertionError(f"{name}: {differing} of {tensor.numel()} elements differ {context}")
