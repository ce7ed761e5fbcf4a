"""Fixtures of the tests that read machine code."""

from __future__ import annotations

import pytest

from tools import build_kernels, sass


@pytest.fixture(scope="session")
def machine_code() -> list[str]:
    """Output of `cuobjdump -sass` for each object of csrc/cuda/sm90; a skip without nvcc or cuobjdump."""
    toolkit, reason = build_kernels.find_cuda()
    if toolkit is None:
        pytest.skip(reason)
    cuobjdump = sass.find_cuobjdump(toolkit)
    if cuobjdump is None:
        pytest.skip("cuobjdump was not found: pip install -r requirements/cuda.txt")
    return sass.sm90_machine_code(toolkit, cuobjdump)
