"""The parts, the time each may take, and the subsets that fit into ten minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Part:
    name: str
    module: str  # of tools.gpu_check; its function lists the cases
    seconds: float  # at most, in a subset of several parts
    log: str  # file name in the output folder: few files come back from some machines
    function: str = "cases"


@dataclass(frozen=True)
class Settings:
    """What every part gets to know."""

    part: str
    library: Path
    out: Path
    emulated: bool = False
    only: str = ""  # a regular expression that the names of the cases must match


PARTS = {
    part.name: part
    for part in (
        Part("build", "build", 240, "build.log"),
        Part("conformance", "conformance", 90, "test.log"),
        Part("test", "grid", 200, "test.log"),
        Part("test-large", "large", 150, "test.log"),
        Part("sanitize", "sanitize", 240, "sanitize.log"),
        Part("determinism", "determinism", 90, "determinism.log"),
        Part("bench", "bench_rows", 240, "bench.log", "dense"),
        Part("bench-masks", "bench_rows", 400, "bench.log", "masks"),
        Part("bench-flex", "bench_rows", 540, "bench.log", "flex"),
        Part("bench-long", "bench_rows", 500, "bench.log", "long"),
        Part("profile", "profile", 120, "profile.log"),
    )
}

# The library comes first, always; it takes seconds when nothing changed. Seconds override those of the part.
SUBSETS: dict[str, dict[str, float]] = {
    "quick": {"conformance": 40, "test": 100, "test-large": 60, "sanitize": 60, "determinism": 30, "bench": 120},
    "build": {},
    "conformance": {"conformance": 90},
    "test": {"test": 240, "test-large": 240},
    "sanitize": {"sanitize": 500},
    "determinism": {"determinism": 200},
    "bench": {"bench": 200, "bench-masks": 330},
    "bench-flex": {"bench-flex": 540},
    "bench-long": {"bench-long": 540},
    "profile": {"profile": 200},
    "all": {name: part.seconds for name, part in PARTS.items() if name != "build"},
}
# Without a GPU these run, on the emulator and with the CPU kernels, at toy sizes.
EMULATED_PARTS = ("build", "test", "test-large", "determinism", "bench", "bench-masks")


def choose(subsets: list[str], emulated: bool) -> dict[str, float]:
    """Parts in the order of PARTS with the seconds each may take.

    Raises:
        ValueError: a name that is no subset, or a subset that has nothing to run without a GPU.
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
