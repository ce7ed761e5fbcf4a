"""Cases with planted faults for tools/gpu_check, and that tool with a part that holds them.

python3 -m faulty_cases [ARGUMENTS OF tools/gpu_check.sh]        with tests/tools on Python's path
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

import numpy as np
from support.call import Call
from support.compare import Expectation
from support.library import Kernels
from support.problem import Problem

from tools.gpu_check import __main__ as gpu_check
from tools.gpu_check import device, grid, plan
from tools.gpu_check.outcome import Case
from tools.gpu_check.processes import run_program

PART = "faulty"
LIMIT = 2.0
ROW = "9.0 forward D128"
DRIVER = "driver/libcuda.so"  # under the output folder
PIDS = "pids"  # in the output folder: processes that must not survive
_PROBLEM = Problem(dtype="bfloat16", seqlen_q=70, seqlen_k=70, head_dim=64, head_dim_v=64)


def cases(settings: plan.Settings) -> list[Case]:
    def listed(name: str, run: object, row: str = "") -> Case:
        return Case(name, lambda: run(settings), LIMIT, row)

    return [
        listed("right first", right),
        listed("hangs", hang, ROW),
        listed("right after a hang", right, ROW),
        listed("corrupts its context", corrupt),
        listed("right after a lost context", right),
        listed("wrong values", wrong),
        listed("right after wrong values", right),
        listed("grandchild survives", grandchild),
        listed("grandchild of a program", program),
        listed("crashes", lambda settings: os.kill(os.getpid(), signal.SIGSEGV)),
        listed("hangs again", hang, ROW),
        listed("would hang a third time", hang, ROW),
        listed("right last", right),
    ]


def fake_gpu(settings: plan.Settings) -> device.CudaDevice:
    """GPU whose memory is the host's and whose kernels are the CPU's."""
    device._DRIVERS = (str(settings.out / DRIVER),)
    device.CUDA = 0
    return device.CudaDevice(settings.library)


def right(settings: plan.Settings) -> None:
    fake_gpu(settings).call(_PROBLEM).forward()


def remember(settings: plan.Settings, pid: int) -> None:
    with (settings.out / PIDS).open("a") as file:
        file.write(f"{pid}\n")


def hang(settings: plan.Settings) -> None:
    remember(settings, os.getpid())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def corrupt(settings: plan.Settings) -> None:
    gpu = fake_gpu(settings)
    call = gpu.call(_PROBLEM)
    ctypes.CDLL(str(settings.out / DRIVER)).fake_fail_from_now_on(700)
    call.forward()


def wrong(settings: plan.Settings) -> None:
    class Wrong(Call):
        def results(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
            found = super().results(names)
            if "out" in found:
                found["out"][0, 65] += 0.25
            return found

    kernels = Kernels(settings.library)
    grid.judge(Expectation(_PROBLEM), Wrong(kernels, _PROBLEM).forward(), "on the GPU")


def grandchild(settings: plan.Settings) -> None:
    """End normally beside a process that would run on."""
    remember(settings, subprocess.Popen(["sleep", "600"]).pid)


def program(settings: plan.Settings) -> None:
    """Run a program that ends normally and leaves a child, which holds its output open."""
    done = run_program(["sh", "-c", "sleep 600 & echo $!"], LIMIT)
    remember(settings, int(done.stdout))


def main() -> int:
    plan.PARTS[PART] = plan.Part(PART, "faulty_cases", 60, "test.log")
    plan.SUBSETS[PART] = {PART: 60}
    plan.EMULATED_PARTS = (*plan.EMULATED_PARTS, PART)
    return gpu_check.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
