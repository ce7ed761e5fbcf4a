"""Options and fixtures of all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.library import Kernels
from support.specification import REPOSITORY

settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile("explore", settings.get_profile("default"), derandomize=False, print_blob=True)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kernels",
        type=Path,
        default=REPOSITORY / "paddle_flashmask" / "_kernels.so",
        help="the library that tests/kernels call (default: the built one)",
    )


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> Kernels:
    path = request.config.getoption("--kernels").resolve()
    if not path.is_file():
        pytest.fail(f"{path} does not exist: build the package first")
    return Kernels(path)


@pytest.fixture(params=["portable", "avx2"])
def isa(request: pytest.FixtureRequest, kernels: Kernels):
    """Runs the test with each instruction set; both must be there, except on machines without AVX2."""
    if request.param not in kernels.isas():
        flags = Path("/proc/cpuinfo").read_text().split()
        if request.param == "avx2" and "avx2" not in flags:
            pytest.skip("this machine has no AVX2")
        pytest.fail(f"the build does not offer {request.param} on this machine")
    kernels.set_isa(request.param)
    yield request.param
    kernels.set_isa("")
