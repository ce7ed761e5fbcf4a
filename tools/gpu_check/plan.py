"""Table of the parts with their time limits, and the subsets that fit into ten minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKS, BENCHMARKS = "tools.gpu_check", "benchmarks.gpu"  # imported by name in the process of a part


@dataclass(frozen=True)
class Part:
    name: str
    module: str  # its `function` lists the cases
    seconds: float  # limit in a subset of several parts
    log: str  # file name in the output folder, shared by parts to keep the number of files small
    function: str = "cases"

    @property
    def undisturbed(self) -> bool:
        """Whether its processes must not be prepared for the debugger."""
        return self.module.startswith(BENCHMARKS) or self.name == "sanitize"


@dataclass(frozen=True)
class Settings:
    """Arguments of every part."""

    part: str
    library: Path
    out: Path
    emulated: bool = False
    only: str = ""  # regular expression that selects cases by name


PARTS = {
    part.name: part
    for part in (
        Part("build", f"{CHECKS}.build", 240, "build.log"),
        Part("conformance", f"{CHECKS}.conformance", 90, "test.log"),
        Part("ladder", f"{CHECKS}.ladder", 300, "test.log"),
        Part("test", f"{CHECKS}.grid", 200, "test.log"),
        Part("test-large", f"{CHECKS}.large", 150, "test.log"),
        Part("sanitize", f"{CHECKS}.sanitize", 240, "sanitize.log"),
        Part("determinism", f"{CHECKS}.determinism", 90, "test.log"),
        Part("bench-first", f"{BENCHMARKS}.bench_rows", 240, "bench.log", "first"),
        Part("bench", f"{BENCHMARKS}.bench_rows", 240, "bench.log", "dense"),
        Part("bench-shapes", f"{BENCHMARKS}.bench_rows", 300, "bench.log", "shapes"),
        Part("bench-peers", f"{BENCHMARKS}.bench_rows", 400, "bench.log", "peers"),
        Part("bench-forms", f"{BENCHMARKS}.bench_rows", 400, "bench.log", "forms"),
        Part("bench-masks", f"{BENCHMARKS}.bench_rows", 400, "bench.log", "masks"),
        Part("bench-flex", f"{BENCHMARKS}.bench_rows", 540, "bench.log", "flex"),
        Part("bench-long", f"{BENCHMARKS}.bench_rows", 500, "bench.log", "long"),
        Part("sweep", f"{BENCHMARKS}.sweep", 360, "bench.log"),
        Part("profile", f"{BENCHMARKS}.profile", 300, "profile.log"),
    )
}

# The build always comes first and takes seconds when nothing changed. These limits replace those of the parts.
SUBSETS: dict[str, dict[str, float]] = {
    "first": {
        "conformance": 40,
        "ladder": 150,  # half a minute where nothing hangs; else the measurements, which come last, get less
        "test": 80,
        "sanitize": 40,
        "determinism": 30,
        "bench-first": 250,
    },
    "quick": {"conformance": 40, "test": 100, "test-large": 60, "sanitize": 60, "determinism": 30, "bench": 250},
    "build": {},
    "ladder": {"ladder": 300},
    "conformance": {"conformance": 90},
    "test": {"test": 240, "test-large": 240},
    "sanitize": {"sanitize": 500},
    "determinism": {"determinism": 200},
    "bench": {"bench": 200, "bench-masks": 330},
    "bench-shapes": {"bench-shapes": 300},
    "bench-peers": {"bench-peers": 400},
    "bench-forms": {"bench-forms": 500},
    "bench-flex": {"bench-flex": 540},
    "bench-long": {"bench-long": 540},
    "sweep": {"sweep": 360},
    "profile": {"profile": 400},
    "all": {name: part.seconds for name, part in PARTS.items() if name != "build"},
}
# Parts of a rehearsal without a GPU: the emulator and the CPU kernels, at toy sizes.
EMULATED_PARTS = (
    "build",
    "ladder",
    "test",
    "test-large",
    "determinism",
    "bench-first",
    "bench",
    "bench-shapes",
    "bench-peers",
    "bench-forms",
    "bench-masks",
    "sweep",
)


def choose(subsets: list[str], emulated: bool) -> dict[str, float]:
    """Time limit in seconds of each chosen part, in the order of PARTS.

    Raises:
        ValueError: for an unknown subset, or one that has no part to rehearse without a GPU.
    """
    chosen: dict[str, float] = {"build": PARTS["build"].seconds}
    for subset in subsets:
        if subset not in SUBSETS:
            raise ValueError(f"unknown subset {subset!r}, expected some of {', '.join(SUBSETS)}")
        for name, seconds in SUBSETS[subset].items():
            chosen[name] = max(seconds, chosen.get(name, 0.0))
        if emulated and subset != "build" and not set(SUBSETS[subset]) & set(EMULATED_PARTS):
            raise ValueError(f"{subset} needs a GPU")
    names = [name for name in PARTS if name in chosen and (not emulated or name in EMULATED_PARTS)]
    return {name: chosen[name] for name in names}
