"""Program that Nsight Compute profiles: one launch of the newest forward or backward on this device.

python3 -m benchmarks.gpu.profile_driver LIBRARY MASK HEAD_DIM KERNEL
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.gpu_check.device import CudaDevice

from .bench import Row, problem_of
from .model_masks import mask_of

SEQLEN, HEADS = 8192, 16
# Kernel -> regular expression of its demangled name.
KERNELS = {"forward": "sm[89]0::Forward<", "backward": "sm[89]0::Backward<"}


def main() -> None:
    library, mask, head_dim, kernel = sys.argv[1:]
    row = Row(mask, SEQLEN, int(head_dim), HEADS, HEADS, 1)
    call = CudaDevice(Path(library)).call(problem_of(row, mask_of(mask, SEQLEN)))
    call.forward()
    if kernel == "backward":
        call.backward()


if __name__ == "__main__":
    main()
