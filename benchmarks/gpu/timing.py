"""Timing of calls that take turns within a round, with CUDA events around each call."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

WARM_UP, ROUNDS = 10, 30
FLUSH_BYTES = 256 << 20  # several times the L2 cache of an H200
# Keep the GPU busy while the host enqueues the call, so that the time excludes launch overhead.
_HOLD_CYCLES = 1_800_000  # about a millisecond
Call = Callable[[], Any]

METHOD = (
    f"CUDA events around every call; median of {ROUNDS} rounds after {WARM_UP} warm-up rounds; contestants take turns "
    f"within a round, in rotating order; L2 is cold ({FLUSH_BYTES >> 20} MiB are overwritten before every call); "
    "the GPU is held busy while the host enqueues (fa3_jax: wall clock with its launch); random normal inputs"
)


@dataclass(frozen=True)
class Blocking:
    """Call that enqueues its work outside torch's stream and returns when it is done."""

    call: Call

    def __call__(self) -> Any:
        return self.call()


class Timer(Protocol):
    def milliseconds(self, call: Call) -> float: ...


class EventTimer:
    def __init__(self) -> None:
        import torch

        self._synchronize = torch.cuda.synchronize
        self._hold = functools.partial(torch.cuda._sleep, _HOLD_CYCLES)
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def milliseconds(self, call: Call) -> float:
        self._flush.zero_()
        if isinstance(call, Blocking):  # the wall clock, with the launch, because events do not see the work
            self._synchronize()
            return HostTimer().milliseconds(call)
        self._hold()
        self._start.record()
        call()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end)


class HostTimer:
    """Wall clock, for rehearsals on the CPU."""

    def milliseconds(self, call: Call) -> float:
        begin = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - begin)


def take_turns(timer: Timer, contestants: dict[str, Call], rounds: int = ROUNDS, warm_up: int = WARM_UP) -> dict:
    """Milliseconds of each round by contestant; the order rotates from round to round."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        for index in range(len(names)):
            name = names[(index + turn) % len(names)]
            taken = timer.milliseconds(contestants[name])
            if turn >= warm_up:
                times[name].append(round(taken, 5))
    return times


def statistics_of(milliseconds: list[float], flop: float) -> dict[str, float]:
    """Median, 20th and 80th percentile in ms, and TFLOP/s at the median."""
    ordered = sorted(milliseconds)
    last = len(ordered) - 1
    median = statistics.median(ordered)
    return {
        "median_ms": median,
        "p20_ms": ordered[round(0.2 * last)],
        "p80_ms": ordered[round(0.8 * last)],
        "tflops": flop / median / 1e9,
    }


def kernel_microseconds(call: Call, repetitions: int) -> dict[str, float]:
    """Device time of one `call` by name of each kernel, from the median of its launches, without the gaps between."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(repetitions):
            call()
        torch.cuda.synchronize()
    taken: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            taken.setdefault(event.name, []).append(event.time_range.elapsed_us())
    # A kernel that one call launches several times counts once for each launch.
    return {name: statistics.median(times) * len(times) / repetitions for name, times in taken.items()}
