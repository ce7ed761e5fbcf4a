"""Program that Nsight Compute profiles: one forward and one backward of each kernel set.

python3 -m benchmarks.gpu.profile_driver LIBRARY KIND HEAD_DIM
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from support import mask_samples
from support.problem import Problem

from tools.gpu_check.device import CudaDevice

SEQLEN, HEADS = 8192, 16


def main() -> None:
    library, kind, head_dim = sys.argv[1:]
    startend, causal = mask_samples.sample_mask(kind, np.random.default_rng(0), 1, 1, SEQLEN, SEQLEN)
    problem = Problem(
        seqlen_q=SEQLEN,
        seqlen_k=SEQLEN,
        heads_q=HEADS,
        heads_kv=HEADS,
        head_dim=int(head_dim),
        head_dim_v=int(head_dim),
        dtype="bfloat16",
        causal=causal,
        startend=startend,
    )
    device = CudaDevice(Path(library))
    for _ in device.newest_kernels():
        call = device.call(problem)
        call.forward()
        call.backward()


if __name__ == "__main__":
    main()
