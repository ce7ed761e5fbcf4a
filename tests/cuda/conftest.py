from __future__ import annotations

import pytest
from support.emulated import EmulatedKernels, emulated_library


@pytest.fixture(scope="session")
def emulated() -> EmulatedKernels:
    return EmulatedKernels(emulated_library())
