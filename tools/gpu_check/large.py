"""Checks at real sizes and of a real GPU: hundreds of tiles, 64-bit offsets, graphs, streams."""

from __future__ import annotations

from support.pairwise import pairwise

from .large_problems import LONG, MIDDLE, REHEARSED_LONG, REHEARSED_MIDDLE, long_problem, middle_problem
from .outcome import Case
from .plan import Settings
from .with_torch import open_checks

_SECONDS = 30.0  # of one case, with its reference


def cases(settings: Settings) -> list[Case]:
    middle = pairwise(REHEARSED_MIDDLE if settings.emulated else MIDDLE)
    # First the few special cases, which must run even when time is short.
    found = [
        Case("the reference agrees with NumPy's", lambda: open_checks(settings).reference_agrees(), _SECONDS),
        Case("CUDA graph, 20 replays", lambda: open_checks(settings).graph_replays(0.0), _SECONDS),
        Case("CUDA graph, 20 replays, dropout", lambda: open_checks(settings).graph_replays(0.1), _SECONDS),
        Case("two streams at once", lambda: open_checks(settings).two_streams(0.0), _SECONDS),
        Case("two streams at once, dropout", lambda: open_checks(settings).two_streams(0.1), _SECONDS),
        Case("seed and offset from device memory", lambda: open_checks(settings).pointer_seed(), _SECONDS),
    ]
    for row in REHEARSED_LONG if settings.emulated else LONG:
        found.append(
            Case(
                f"long {' '.join(map(str, row))}",
                lambda row=row: open_checks(settings).check(long_problem(*row)),
                _SECONDS,
            )
        )
    found.append(Case("more than 2^31 elements", lambda: open_checks(settings).many_elements(), 2 * _SECONDS))
    for index, row in enumerate(middle):
        name = f"middle {index:03d} " + " ".join(f"{k}={v}".replace(" ", "") for k, v in row.items())
        found.append(Case(name, lambda row=row: open_checks(settings).check(*middle_problem(row)), _SECONDS))
    return found
