"""A thousand repetitions, bit for bit: every head dim and dtype, backward with deterministic=1, forward as it is.
The kernels for compute capability 9.0 leave dropout to those for 8.0, so without it both are met on a device of 9.0."""

from __future__ import annotations

from .large import torch_checks
from .outcome import Case
from .plan import Settings

REPETITIONS = 1000
REHEARSED_REPETITIONS = 3


def cases(settings: Settings) -> list[Case]:
    repetitions = REHEARSED_REPETITIONS if settings.emulated else REPETITIONS

    def repeat(dropout: float, head_dim: int, dtype: str) -> Case:
        def run() -> dict[str, int]:
            checks = torch_checks(settings)
            problem = checks.busy_problem(dropout=dropout, head_dim=head_dim, head_dim_v=head_dim, dtype=dtype)
            return checks.repeat(problem, repetitions)

        return Case(f"head_dim {head_dim} {dtype}, dropout {dropout}, {repetitions} repetitions", run)

    dtypes = ("bfloat16", "float16")
    found = [repeat(0.0, head_dim, dtype) for head_dim in (128, 64, 256) for dtype in dtypes]
    return found + [repeat(0.1, head_dim, dtype) for head_dim in (128, 64, 256, 96) for dtype in dtypes]
