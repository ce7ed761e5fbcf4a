"""Sweep over variants of the 9.0 tile rows, which `make sweep-variants` compiles into one library.

Each variant is verified once: against float64 on a small problem, and on a GPU against the table's own rows at the size
that is timed. The right ones are then timed in turns, and the best again with more rounds.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from ctypes import c_int32
from pathlib import Path
from typing import Any

from support.compare import Expectation
from support.library import Kernels

from tools.gpu_check.cases import problem_of
from tools.gpu_check.device import Device, open_device, with_generation
from tools.gpu_check.grid import judge
from tools.gpu_check.journal import FILE, Journal
from tools.gpu_check.outcome import PASSED, Case, NotRun
from tools.gpu_check.plan import Settings

from .bench import FLOP, Row, paper_row
from .bench import problem_of as problem_of_row
from .model_masks import mask_of
from .timing import EventTimer, HostTimer, statistics_of, take_turns

LIBRARY, EMULATED_LIBRARY = "variants.so", "variants_emulated.so"  # beside the library under test
TABLE = "the table's row"  # variant 0
MASKS = ("full", "causal_document")
FIRST_ROUNDS, LAST_ROUNDS, BEST = 10, 30, 5
_HEAD = f"speed over {TABLE}: the best {BEST} variants"
_VERIFY_SECONDS, _TIME_SECONDS = 20.0, 90.0
_TOLERANCE = {"forward": 0.01, "backward": 0.03}  # norm of the difference over the norm, as between peers
_SMALL: dict[str, Any] = {"kind": "random_4", "size": (300, 400), "heads": (4, 2, 2), "dtype": "bfloat16"}
_REHEARSED: dict[str, Any] = {"kind": "random_4", "size": (70, 130), "heads": (2, 1, 1), "dtype": "bfloat16"}


def select(kernels: Kernels, direction: str, index: int) -> None:
    """Choose the variant that later launches run; 0 is the table's row."""
    chosen = [index if direction == name else 0 for name in FLOP]
    status = kernels._library.pfm_select_variants(*map(c_int32, chosen))
    assert status == 0, f"pfm_select_variants{tuple(chosen)} returned {status}"


class Sweep:
    """Variants of the library, opened when first used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = settings.library.with_name(EMULATED_LIBRARY if settings.emulated else LIBRARY)

    @functools.cached_property
    def described(self) -> dict[str, Any]:
        if not self.library.exists():
            raise NotRun(f"{self.library.name} is missing: make sweep-variants")
        return json.loads(self.library.with_suffix(".json").read_text())

    @property
    def head_dim(self) -> int:
        return self.described["head_dim"]

    @functools.cached_property
    def device(self) -> Device:
        settings = self.settings
        return open_device(Settings(settings.part, self.library, settings.out, settings.emulated))

    @functools.cached_property
    def sized(self) -> Callable[[str], SizedCall]:
        return functools.cache(lambda mask: SizedCall(self, mask))

    def verify(self, direction: str, index: int) -> dict[str, Any]:
        """Expect right results of a variant on a small problem and, on a GPU, at the size that is timed."""
        choice = _REHEARSED if self.settings.emulated else _SMALL
        expectation = Expectation(problem_of(choice | {"dims": (self.head_dim, self.head_dim)}))
        for deterministic in (False, True) if direction == "backward" else (False,):
            call = self.device.call(expectation.problem, deterministic)
            with with_generation(self.device.kernels, 90):
                select(self.device.kernels, direction, index)
                results = call.forward()
                results = call.backward() if direction == "backward" else results
            judge(expectation, results, f"of {direction} variant {index}")
        if self.settings.emulated:
            return {}
        return {"difference": {mask: self.sized(mask).difference(direction, index) for mask in MASKS}}

    def time(self, direction: str, chosen: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
        """Milliseconds of the variants, the table's row among them, in turns; the fastest first."""
        named = {TABLE: 0} | {variant["name"]: variant["index"] for variant in chosen}
        by_mask = {}
        for mask in ["full"] if self.settings.emulated else MASKS:
            call = self._small_call() if self.settings.emulated else self.sized(mask)
            contestants = {name: functools.partial(call.launch, direction, index) for name, index in named.items()}
            timer = HostTimer() if self.settings.emulated else EventTimer()
            times = take_turns(timer, contestants, rounds, warm_up=1 if self.settings.emulated else 3)
            by_mask[mask] = {name: statistics_of(taken, call.flop(direction)) for name, taken in times.items()}
        ranked = ranking(by_mask)
        lines = [f"{entry['speed']:6.3f}  {direction[:3]}  {entry['name']}" for entry in ranked[:BEST]]
        return {"variants": by_mask, "ranking": ranked, "summary": {"head": _HEAD, "lines": lines}}

    def _small_call(self) -> SmallCall:
        return SmallCall(self.device, problem_of(_REHEARSED | {"dims": (self.head_dim, self.head_dim)}))


class SmallCall:
    """Call of a rehearsal, whose times have no meaning."""

    def __init__(self, device: Device, problem: Any) -> None:
        self._kernels, self._call = device.kernels, device.call(problem)
        self._call.forward()

    def flop(self, direction: str) -> float:
        return 0.0

    def launch(self, direction: str, index: int) -> None:
        select(self._kernels, direction, index)
        getattr(self._call, direction)()


class SizedCall:
    """Call at real size whose workspace fits every variant."""

    def __init__(self, sweep: Sweep, name: str) -> None:
        import torch
        from support.torch_call import TorchCall, random_inputs, synchronize

        from tools.gpu_check.with_torch import torch_device

        device = torch_device(sweep.settings)
        self._torch, self._kernels = torch, Kernels(sweep.library)
        self._row: Row = paper_row(name, 8192, sweep.head_dim)
        self._mask = mask_of(name, self._row.seqlen)
        problem = problem_of_row(self._row, self._mask)
        counts = {d: sum(variant["direction"] == d for variant in sweep.described["variants"]) for d in FLOP}
        select(self._kernels, "forward", 0)
        self._call = TorchCall(self._kernels, problem, random_inputs(problem, device))
        sizes = []
        for direction in FLOP:
            query = getattr(self._kernels, f"{direction}_workspace")
            for index in range(counts[direction] + 1):
                select(self._kernels, direction, index)
                sizes.append(query(self._call.params))
        self._call.reserve(max(sizes))
        self._expected = {d: self._results(d, 0) for d in FLOP}
        synchronize(device)

    def flop(self, direction: str) -> float:
        of_key, of_value = FLOP[direction]
        row = self._row
        return float((of_key * row.head_dim + of_value * row.head_dim_v) * self._mask.pairs * row.batch * row.heads)

    def launch(self, direction: str, index: int) -> None:
        select(self._kernels, direction, index)
        getattr(self._call, direction)()

    def _results(self, direction: str, index: int) -> dict[str, Any]:
        self.launch(direction, index)
        names = ("out", "lse") if direction == "forward" else ("dquery", "dkey", "dvalue")
        return {name: self._call.outputs[name].clone() for name in names}

    def difference(self, direction: str, index: int) -> float:
        """Largest difference from the table's row. Raises AssertionError beyond the tolerance."""
        norm, differences = self._torch.linalg.vector_norm, {}
        for name, ours in self._results(direction, index).items():
            theirs = self._expected[direction][name].float()
            differences[name] = float(norm(ours.float() - theirs) / norm(theirs))
        wrong = {name: value for name, value in differences.items() if not value < _TOLERANCE[direction]}  # or NaN
        assert not wrong, f"{direction} variant {index}: relative differences {wrong}"
        return max(differences.values())


def ranking(by_mask: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Variants by their speed over the table's row, the geometric mean of the masks."""
    names = next(iter(by_mask.values()))
    speeds = {
        name: math.exp(
            sum(math.log(times[TABLE]["median_ms"] / times[name]["median_ms"]) for times in by_mask.values())
            / len(by_mask)
        )
        for name in names
    }
    return [{"name": name, "speed": round(speeds[name], 4)} for name in sorted(names, key=lambda n: -speeds[n])]


def cases(settings: Settings) -> list[Case]:
    """For each direction: every variant once, then the right ones in turns, then the best of them."""
    sweep = Sweep(settings)
    try:
        variants = sweep.described["variants"]
    except NotRun as reason:
        return [Case("variants", functools.partial(_raise, reason))]
    found = []
    for direction in FLOP:
        listed = [variant for variant in variants if variant["direction"] == direction]
        for variant in listed:
            verify = functools.partial(sweep.verify, direction, variant["index"])
            row = f"{direction} {variant['name']}"
            found.append(Case(f"{direction}: {variant['name']}", verify, _VERIFY_SECONDS, row))
        for name, choose, rounds in (
            ("all in turns", _right, FIRST_ROUNDS),
            (f"the best {BEST} again", _best, LAST_ROUNDS),
        ):
            timed = functools.partial(_time, sweep, direction, listed, choose, 2 if settings.emulated else rounds)
            found.append(Case(f"{direction}: {name}", timed, _TIME_SECONDS))
    return found


def _raise(reason: NotRun) -> None:
    raise reason


def _time(sweep: Sweep, direction: str, listed: list[dict[str, Any]], choose: Callable, rounds: int) -> dict[str, Any]:
    return sweep.time(direction, choose(sweep.settings, direction, listed), rounds)


def _results(settings: Settings) -> dict[str, Any]:
    """Results of this part so far, also those of earlier processes."""
    journal = Journal(Path(settings.out) / FILE, settings.part)
    journal.refresh()
    return {result.name: result for result in journal.results}


def _right(settings: Settings, direction: str, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    results = _results(settings)
    verified = [f"{direction}: {variant['name']}" for variant in listed]
    return [v for v, name in zip(listed, verified, strict=True) if name in results and results[name].outcome == PASSED]


def _best(settings: Settings, direction: str, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result = _results(settings).get(f"{direction}: all in turns")
    if result is None or result.outcome != PASSED:
        raise NotRun("the variants were not timed")
    ranked = [entry["name"] for entry in result.figures["ranking"] if entry["name"] != TABLE]
    by_name = {variant["name"]: variant for variant in listed}
    return [by_name[name] for name in ranked[:BEST]]
