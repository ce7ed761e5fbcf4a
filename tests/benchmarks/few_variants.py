"""Library of one forward and one backward variant at head_dim 64, beside the emulated kernels."""

from __future__ import annotations

from typing import Any

from support import emulated

from benchmarks.gpu.sweep import EMULATED_LIBRARY
from tools import sweep_variants

FORWARD = "128x64 stages 2 query stages 1"
BACKWARD = "64x128 stages 2 bits 2 registers 40:232"
REFUSED = "128x128 stages 2 bits 2 registers 24:240"  # needs more registers
PATH = emulated.LIBRARY.with_name(EMULATED_LIBRARY)


def build() -> dict[str, Any]:
    emulated.emulated_library()
    only = f"forward {FORWARD}|backward ({BACKWARD}|{REFUSED})"
    return sweep_variants.build(PATH, None, 64, only, emulated=True)
