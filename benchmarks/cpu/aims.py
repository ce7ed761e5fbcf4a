"""Aims of the CPU kernels beside the results of each processor, as Markdown: python -m benchmarks.cpu.aims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .report import Key, Rounds, load, peak_share, ratio

RESULTS = Path(__file__).resolve().parents[1] / "results"
DEVICES = {
    "Emerald Rapids": RESULTS / "cpu.csv",
    "Zen 3": RESULTS / "cpu_zen3.csv",
    "Zen 4, older kernels": RESULTS / "cpu_zen4.csv",
}
LEAST_TOKENS = 4096  # shorter calls are over in a few milliseconds
SPARSE = 0.25  # density below which the backward is held to `5 x SDPA`


@dataclass(frozen=True)
class Aim:
    """A least value of `measure` on every problem of float32 that `holds_for` selects."""

    name: str
    aim: float
    measure: Callable[[Rounds], float | None]
    holds_for: Callable[[Key, Rounds], bool]
    percent: bool = False


def _mask(name: str, *head_dims: str) -> Callable[[Key, Rounds], bool]:
    return lambda key, _: key[3] == name and (not head_dims or key[1] in head_dims)


def _is_sparse(_: Key, rounds: Rounds) -> bool:
    return float(rounds["forward", "ours"][0]["density"]) < SPARSE


def _times(direction: str, peer: str = "torch_sdpa") -> Callable[[Rounds], float | None]:
    return lambda rounds: ratio(rounds, direction, peer)


AIMS = (
    Aim("full, fwd, D 128, % of FMA peak", 80, lambda r: 100 * peak_share(r, "forward"), _mask("full", "128"), True),
    Aim("full, fwd, D 128, x SDPA", 1.2, _times("forward"), _mask("full", "128")),
    Aim("causal, fwd, x SDPA", 1.3, _times("forward"), _mask("causal")),
    Aim("causal_document, fwd, x SDPA", 6, _times("forward"), _mask("causal_document")),
    Aim("sliding_window, fwd, x SDPA", 10, _times("forward"), _mask("sliding_window")),
    Aim("share_question, fwd, x SDPA", 10, _times("forward"), _mask("share_question")),
    Aim("full, bwd, D 128, x SDPA", 1.3, _times("backward"), _mask("full", "128")),
    Aim("full, bwd, D 64, x SDPA", 1.3, _times("backward"), _mask("full", "64")),
    Aim("density below 0.25, bwd, x SDPA", 5, _times("backward"), _is_sparse),
    Aim("fwd, x FlexAttention", 1.2, _times("forward", "torch_flex"), lambda key, rounds: True),
)


def result(aim: Aim, table: dict[Key, Rounds]) -> str:
    """The least and the greatest value; bold where one misses the aim, `-` where nothing was measured."""
    counted = {key: rounds for key, rounds in table.items() if key[2] == "float32" and int(key[0]) >= LEAST_TOKENS}
    held = [rounds for key, rounds in counted.items() if aim.holds_for(key, rounds)]
    measured = [aim.measure(rounds) for rounds in held]
    values = sorted(value for value in measured if value is not None)
    if not values:
        return "-"
    shown = [f"{value:.0f}" if aim.percent else f"{value:.2f}" for value in (values[0], values[-1])]
    text = " to ".join(dict.fromkeys(shown))
    return text if float(shown[0]) >= aim.aim else f"**{text}**"


def markdown() -> str:
    tables = {name: load(path) for name, path in DEVICES.items()}
    lines = ["| | aim | " + " | ".join(tables) + " |", "|---|---|" + "---|" * len(tables)]
    for aim in AIMS:
        results = " | ".join(result(aim, table) for table in tables.values())
        lines.append(f"| {aim.name} | {aim.aim:g} | {results} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
