"""Options and fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.library import Kernels
from support.repository import REPOSITORY

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
        help="kernel library under test (default: the one built into the package)",
    )


@pytest.fixture(scope="session")
def kernels(request: pytest.FixtureRequest) -> Kernels:
    path = request.config.getoption("--kernels").resolve()
    if not path.is_file():
        pytest.fail(f"{path} does not exist: build the package first")
    return Kernels(path)


# Flags of /proc/cpuinfo that each instruction set of csrc/cpu/tile_kernels_*.cc needs.
CPU_FLAGS = {
    "portable": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vbmi2"},
}
ISAS = sorted(path.stem.removeprefix("tile_kernels_") for path in REPOSITORY.glob("csrc/cpu/tile_kernels_*.cc"))


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, kernels: Kernels):
    """Each instruction set of the sources in turn. Skips those that this CPU lacks; the build must offer the others."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if request.param not in kernels.isas():
        if not CPU_FLAGS[request.param] <= flags:
            pytest.skip(f"this CPU has no {request.param}")
        pytest.fail(f"the build does not offer {request.param}, which this CPU has")
    kernels.set_isa(request.param)
    yield request.param
    kernels.set_isa("")
