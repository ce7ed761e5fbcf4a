"""Measurement of one row of the tables: our kernels and their peers on one mask, forward and backward."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.library import Kernels
from support.problem import Problem

from tools.gpu_check.outcome import NotRun, WrongResult, loses_context
from tools.gpu_check.plan import Settings
from tools.gpu_check.with_torch import torch_device

from . import summary
from .load import LoadSampler
from .model_masks import mask_of
from .paper_masks import PaperMask
from .timing import METHOD, EventTimer, HostTimer, kernel_microseconds, statistics_of, take_turns

# FLOPs per visible pair for each element of head_dim and of head_dim_v: two products forward, five backward.
FLOP = {"forward": (2, 2), "backward": (6, 4)}
TOKENS = 32768  # batch * length
HIDDEN = 4096  # heads * head_dim, as in the paper
DETERMINISTIC = "ours_deterministic"  # our backward with dquery in turn
OLDER_KERNELS = "ours_80"  # our 8.0 kernels, as a peer on a device that runs the 9.0 kernels
_MATMUL_SIZE = 8192
PEER_TURNS = {"rounds": 10, "warm_up": 3}  # of peers alone; beside ours they are measured in full
_COPY_BYTES = 1 << 30
_KERNEL_REPETITIONS = 10
# Norm of the difference over the norm; two correct bf16 kernels differ by rounding only.
_TOLERANCE = {"forward": 0.01, "backward": 0.03}


@dataclass(frozen=True)
class Row:
    mask: str
    seqlen: int
    head_dim: int
    heads: int
    heads_kv: int
    batch: int
    dtype: str = "bfloat16"
    value_dim: int = 0  # head_dim_v where it differs

    @property
    def head_dim_v(self) -> int:
        return self.value_dim or self.head_dim

    @property
    def dims(self) -> str:
        return f"{self.head_dim},{self.value_dim}" if self.value_dim else f"{self.head_dim}"

    @property
    def name(self) -> str:
        return f"{self.mask} S={self.seqlen} D={self.dims} B={self.batch} H={self.heads}:{self.heads_kv}"


def paper_row(mask: str, seqlen: int, head_dim: int, tokens: int = TOKENS, hidden: int = HIDDEN) -> Row:
    heads = hidden // head_dim
    return Row(mask, seqlen, head_dim, heads, heads, max(1, tokens // seqlen))


def toy_row(mask: str) -> Row:
    return Row(mask, 256, 64, 2, 2, 1, "float32")


@dataclass
class Contest:
    """Inputs of a row and the peers that were measured on them."""

    row: Row
    mask: PaperMask
    problem: Problem
    inputs: dict[str, Any]
    peers: dict[str, Any] = field(default_factory=dict)  # name -> peers.Peer
    deterministic: Any = None  # TorchCall, if it was measured
    absent: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Bench:
    """State shared by the rows of one part. In a rehearsal on the CPU the figures have no meaning."""

    def __init__(self, settings: Settings) -> None:
        self.device = torch_device(settings)
        import torch

        self.torch = torch
        self.rehearsal = settings.emulated
        self.kernels = Kernels(settings.library)
        self.timer = HostTimer() if settings.emulated else EventTimer()
        self.turns = {"rounds": 2, "warm_up": 1} if settings.emulated else {}
        self.sampler = LoadSampler().__enter__()
        self._contest: Contest | None = None

    @functools.cached_property
    def matmul_tflops(self) -> float:
        """R, the rate of a large bf16 matrix product on random data in this process, in TFLOP/s."""
        return self.matmul()["tflops"]

    def copy(self) -> dict[str, Any]:
        """Bandwidth of a copy inside the memory of the device, in GB/s of bytes read and written."""
        source = self.torch.empty(_COPY_BYTES if not self.rehearsal else 1 << 16, dtype=self.torch.uint8)
        source = source.to(self.device)
        target = self.torch.empty_like(source)
        times = take_turns(self.timer, {"copy": lambda: target.copy_(source)}, **self.turns)["copy"]
        median = statistics_of(times, 0.0)["median_ms"]
        return {"copy_gb_per_s": 2 * source.numel() / median / 1e6, "bytes": source.numel(), "median_ms": median}

    def matmul(self) -> dict[str, Any]:
        size = 128 if self.rehearsal else _MATMUL_SIZE
        left, right = (self.torch.randn(size, size, device=self.device).bfloat16() for _ in range(2))
        with self._load() as load:
            times = take_turns(self.timer, {"matmul": lambda: left @ right}, **self.turns)["matmul"]
        return statistics_of(times, 2.0 * size**3) | {"size": size, "load": load, "method": METHOD}

    @contextmanager
    def _load(self) -> Iterator[dict[str, float]]:
        begin = time.monotonic()
        load: dict[str, float] = {}
        yield load
        load.update(self.sampler.median_since(begin))

    def measure_peer(self, row: Row, name: str) -> dict[str, Any]:
        """Figures of one peer alone, which stay whatever comes later. It is kept for measure_ours."""
        from .peers import PEERS

        contest = self._prepared(row)
        figures: dict[str, Any] = {"peers_of": row.name}
        begin = time.perf_counter()
        try:
            peer = PEERS[name](contest.mask, contest.inputs, contest.problem.scale)
            self._synchronize()
        except Exception as refusal:  # a peer may raise anything
            if loses_context(refusal):
                raise
            contest.absent[name] = f"{type(refusal).__name__}: {refusal}"[:300]
            return figures | {"absent": {name: contest.absent[name]}}
        contest.peers[name] = peer
        contest.seconds[name] = round(time.perf_counter() - begin, 2)
        if peer.no_backward:
            contest.absent[f"{name} backward"] = peer.no_backward[:300]
        figures |= {"absent": dict(contest.absent), "first_call_seconds": contest.seconds[name]}
        for direction in FLOP:
            if runs(peer, direction):
                call = {name: getattr(peer, direction)}
                figures[direction] = self._measure(row, contest.mask, direction, call, PEER_TURNS)
        return figures

    def measure_deterministic(self, row: Row) -> dict[str, Any]:
        """Figures of our deterministic backward alone. It is kept for measure_ours."""
        from support.torch_call import TorchCall

        contest = self._prepared(row)
        call = TorchCall(self.kernels, contest.problem, contest.inputs, deterministic=True)
        call.both()
        self._synchronize()
        contest.deterministic = call
        measured = self._measure(row, contest.mask, "backward", {DETERMINISTIC: call.backward}, PEER_TURNS)
        return {"peers_of": row.name, "backward": measured}

    def measure_ours(self, row: Row) -> dict[str, Any]:
        """Figures of our kernels, in turns with the peers that this process has measured before.

        Raises:
            WrongResult: our results differ from a peer's. The figures are in the exception.
        """
        from support.torch_call import TorchCall

        contest = self._prepared(row)
        ours = TorchCall(self.kernels, contest.problem, contest.inputs)
        ours.both()
        self._synchronize()
        differences = [self._difference(name, ours.outputs, peer) for name, peer in contest.peers.items()]
        figures = self._describe(row, contest.mask)
        figures |= {"absent": contest.absent, "first_call_seconds": contest.seconds}
        own = {"ours": ours}
        if not self.rehearsal and self.kernels.cuda_compute_capability() == 90:
            own[OLDER_KERNELS] = TorchCall(self.kernels, contest.problem, contest.inputs, newest_kernels=80)
        for direction in FLOP:
            calls = {name: call for name, call in (own | contest.peers).items() if runs(call, direction)}
            if direction == "backward" and contest.deterministic:
                calls[DETERMINISTIC] = contest.deterministic
            contestants = {name: getattr(call, direction) for name, call in calls.items()}
            figures[direction] = self._measure(row, contest.mask, direction, contestants)
        if not self.rehearsal:
            figures["kernels"] = {direction: self._kernels_of(getattr(ours, direction)) for direction in FLOP}
        wrong = [difference for difference in differences if difference]
        if wrong:
            figures["wrong"] = wrong
            raise WrongResult("; ".join(wrong), figures | {"summary": summary.of(figures)})
        return figures | {"summary": summary.of(figures)}

    def _prepared(self, row: Row) -> Contest:
        """Problem and inputs of a row, with its peers if they were measured; only the last row is kept."""
        from support.torch_call import random_inputs

        if self._contest is None or self._contest.row != row:
            self._contest = None  # frees the memory of the last row first
            mask = mask_of(row.mask, row.seqlen)
            problem = problem_of(row, mask)
            self._contest = Contest(row, mask, problem, random_inputs(problem, self.device))
        return self._contest

    @staticmethod
    def _kernels_of(call: Callable[[], Any]) -> dict[str, float] | str:
        """Microseconds of each kernel, or why the profiler failed, which is no reason to lose the times of the row."""
        try:
            return kernel_microseconds(call, _KERNEL_REPETITIONS)
        except Exception as failure:  # the profiler may raise anything
            if loses_context(failure):
                raise
            return f"{type(failure).__name__}: {failure}"

    def _synchronize(self) -> None:
        from support.torch_call import synchronize

        synchronize(self.device)

    def _difference(self, name: str, outputs: dict[str, Any], peer: Any) -> str:
        """Difference between our results and a peer's beyond the tolerance, or ""."""
        pairs = [("forward", outputs["out"], peer.out)]
        if runs(peer, "backward"):
            gradients = (outputs["dquery"], outputs["dkey"], outputs["dvalue"])
            pairs += [("backward", ours, theirs) for ours, theirs in zip(gradients, peer.gradients(), strict=True)]
        for direction, ours, theirs in pairs:
            norm = self.torch.linalg.vector_norm
            difference = float(norm((ours - theirs).float()) / norm(theirs.float()))
            if not difference < _TOLERANCE[direction]:  # or NaN
                return f"{name}: relative difference {difference:.2e} in {direction}"
        return ""

    def _describe(self, row: Row, mask: PaperMask) -> dict[str, Any]:
        return {
            "mask": row.mask,
            "seqlen": row.seqlen,
            "head_dim": row.head_dim,
            "head_dim_v": row.head_dim_v,
            "heads": row.heads,
            "heads_kv": row.heads_kv,
            "batch": row.batch,
            "dtype": row.dtype,
            "density": mask.pairs / row.seqlen**2,
            "tile_efficiency": mask.tile_efficiency,
            "live_tiles_per_row": mask.live_tiles_per_row,
            "partial_tiles": mask.partial_tiles,
            "matmul_tflops": self.matmul_tflops,
        }

    def _measure(
        self,
        row: Row,
        mask: PaperMask,
        direction: str,
        contestants: dict[str, Callable],
        turns: dict[str, int] | None = None,
    ) -> dict[str, Any]:
        of_key, of_value = FLOP[direction]
        flop = float((of_key * row.head_dim + of_value * row.head_dim_v) * mask.pairs * row.batch * row.heads)
        with self._load() as load:
            times = take_turns(self.timer, contestants, **(self.turns or turns or {}))
        return {
            "flop": flop,
            "load": load,
            "contestants": {name: statistics_of(taken, flop) | {"ms": taken} for name, taken in times.items()},
        }

    def kernel_times(self, row: Row, direction: str, repetitions: int = 30) -> dict[str, float]:
        """Median time of each of our kernels, in microseconds."""
        from support.torch_call import TorchCall, random_inputs

        if self.rehearsal:
            raise NotRun("single kernels are timed on a GPU only")
        problem = problem_of(row, mask_of(row.mask, row.seqlen))
        call = TorchCall(self.kernels, problem, random_inputs(problem, self.device), backward=direction == "backward")
        call.forward()
        return kernel_microseconds(getattr(call, direction), repetitions)


def runs(call: Any, direction: str) -> bool:
    """Whether a Peer or TorchCall has this direction; some peers have no backward."""
    return direction == "forward" or not call.no_backward


def problem_of(row: Row, mask: PaperMask) -> Problem:
    columns = mask.columns
    if columns is not None:
        columns = columns.repeat(row.batch, axis=0)
    return Problem(
        batch=row.batch,
        seqlen_q=row.seqlen,
        seqlen_k=row.seqlen,
        heads_q=row.heads,
        heads_kv=row.heads_kv,
        head_dim=row.head_dim,
        head_dim_v=row.head_dim_v,
        dtype=row.dtype,
        causal=mask.causal,
        startend=columns,
    )
