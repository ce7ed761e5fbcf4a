"""Program that compute-sanitizer runs: one small problem, forward and backward.

python3 -m tools.gpu_check.sanitize_driver LIBRARY CASE TOOL
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from support.compare import Expectation

from .cases import problem_of
from .device import CudaDevice

_FEATURES: dict[str, Any] = {"heads": (4, 2, 2), "sink": True, "dlse": True, "dropout": 0.1, "size": (150, 200)}
# First those that run on the 9.0 kernels.
CASES: dict[str, dict[str, Any]] = {
    "head_dim 128, no dropout": _FEATURES | {"kind": "random_4", "dims": (128, 128), "dropout": 0.0},
    "head_dim 64, no dropout, ordered": _FEATURES
    | {"kind": "causal_document", "dims": (64, 64), "dropout": 0.0, "deterministic": True},
    "head_dim 128, holes": _FEATURES | {"kind": "random_4", "dims": (128, 128)},
    "head_dim 64, documents, blocks": _FEATURES | {"kind": "causal_document", "dims": (64, 64), "blocks": True},
    "head_dim 256, ordered": _FEATURES | {"kind": "document", "dims": (256, 256), "deterministic": True},
    "head_dim 40 and 24, float16": _FEATURES | {"kind": "random_2", "dims": (40, 24), "dtype": "float16"},
}


def main() -> None:
    library, name, tool = sys.argv[1:]
    # Guards would hide an access past the end from memcheck, and poison would hide an unwritten byte from initcheck.
    device = CudaDevice(Path(library), guard_bytes=0, poison=tool != "initcheck")
    choice = CASES[name]
    problem = problem_of(choice)
    expectation = Expectation(problem)
    for newest in device.newest_kernels():
        call = device.call(problem, choice.get("deterministic", False))
        expectation.check({**call.forward(), **call.backward()}, f"under {tool}, kernels of {newest / 10}")
    print("results are right")


if __name__ == "__main__":
    main()
