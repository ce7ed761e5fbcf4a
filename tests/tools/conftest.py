"""Fixtures of the tests that read machine code. Tests that need torch are collected where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tools import build_kernels, sass

collect_ignore_glob = [] if find_spec("torch") else ["*_torch.py"]


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
