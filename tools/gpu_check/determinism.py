"""Bitwise comparison of a thousand repetitions with deterministic=1, for each head dim and dtype.

With and without dropout, because a device of compute capability 9.0 runs the 8.0 kernels for dropout and its own
otherwise.
"""

from __future__ import annotations

from .outcome import Case
from .plan import Settings
from .with_torch import open_checks

REPETITIONS = 1000
REHEARSED_REPETITIONS = 3
_SECONDS = 30.0


def cases(settings: Settings) -> list[Case]:
    repetitions = REHEARSED_REPETITIONS if settings.emulated else REPETITIONS

    def repeat(dropout: float, head_dim: int, dtype: str) -> Case:
        def run() -> dict[str, int]:
            checks = open_checks(settings)
            problem = checks.busy_problem(dropout=dropout, head_dim=head_dim, head_dim_v=head_dim, dtype=dtype)
            return checks.repeat(problem, repetitions)

        return Case(f"head_dim {head_dim} {dtype}, dropout {dropout}, {repetitions} repetitions", run, _SECONDS)

    dtypes = ("bfloat16", "float16")
    found = [repeat(0.0, head_dim, dtype) for head_dim in (128, 64, 256) for dtype in dtypes]
    return found + [repeat(0.1, head_dim, dtype) for head_dim in (128, 64, 256, 96) for dtype in dtypes]
