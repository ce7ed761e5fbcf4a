"""A thousand repetitions, bit for bit: every head dim and dtype, backward with deterministic=1, forward as it is."""

from __future__ import annotations

from .large import torch_checks
from .outcome import Case
from .plan import Settings

REPETITIONS = 1000
REHEARSED_REPETITIONS = 3


def cases(settings: Settings) -> list[Case]:
    repetitions = REHEARSED_REPETITIONS if settings.emulated else REPETITIONS

    def repeat(head_dim: int, dtype: str) -> Case:
        def run() -> dict[str, int]:
            checks = torch_checks(settings)
            problem = checks.busy_problem(head_dim=head_dim, head_dim_v=head_dim, dtype=dtype)
            return checks.repeat(problem, repetitions)

        return Case(f"head_dim {head_dim} {dtype}, {repetitions} repetitions", run)

    return [repeat(head_dim, dtype) for head_dim in (128, 64, 256, 96) for dtype in ("bfloat16", "float16")]
