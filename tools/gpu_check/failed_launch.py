"""Program that loses the GPU context on purpose and expects an error from the next call.

python3 -m tools.gpu_check.failed_launch LIBRARY
"""

from __future__ import annotations

import sys
from pathlib import Path

from support.library import DEVICE_ERROR, KernelError
from support.problem import Problem

from .device import CudaDevice
from .outcome import DeviceLost

UNMAPPED = 0x1000  # unmapped on the host as well, because some GPUs can access all host memory


def main() -> None:
    device = CudaDevice(Path(sys.argv[1]))
    call = device.call(Problem(dtype="bfloat16", head_dim=64, head_dim_v=64))
    size = device.kernels.forward_workspace(call.params)
    workspace = device.allocate(size)
    call.params.workspace, call.params.workspace_size = workspace.address, size
    call.params.query.data = UNMAPPED
    device.kernels.forward(call.params)
    try:
        device.synchronize()
    except DeviceLost as lost:
        print(f"as intended: {lost}")
    else:
        raise SystemExit("the kernel read an unmapped address without an error")
    try:
        device.kernels.forward(call.params)
    except KernelError as failure:
        if failure.status != DEVICE_ERROR or not failure.message:
            raise SystemExit(f"status {failure.status}, expected {DEVICE_ERROR}: {failure.message!r}") from failure
        print(f"as intended: {failure}")
    else:
        raise SystemExit("a launch in a lost context returned without an error")


if __name__ == "__main__":
    main()
