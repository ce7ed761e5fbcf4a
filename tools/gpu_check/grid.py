"""Test grid through the C ABI: the GPU and CPU kernels of one library against float64."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from support.call import Call
from support.compare import Expectation
from support.library import DTYPES, INVALID_ARGUMENT, UNSUPPORTED, WORKSPACE_TOO_SMALL, KernelError, Tensor
from support.problem import Problem

from .cases import grid, name_of, problem_of
from .device import Device, open_device
from .outcome import Case, NotRun
from .plan import Settings

_SHORT = 100


def cases(settings: Settings) -> list[Case]:
    devices: list[Device] = []

    def device() -> Device:
        if not devices:
            devices.append(open_device(settings))
        return devices[0]

    def check(choice: dict[str, Any]) -> Case:
        return lambda: compare(device(), problem_of(choice), choice.get("deterministic", False))

    found = [Case(name_of(index, choice), check(choice)) for index, choice in enumerate(grid(settings.emulated))]
    found.append(Case("bad arguments are refused", lambda: refusals(device())))
    found.append(Case("a failed launch surfaces", lambda: failed_launch(settings)))
    return found


def compare(device: Device, problem: Problem, deterministic: bool) -> None:
    """Raises AssertionError unless GPU and CPU kernels both meet the error rule of tests/support."""
    expectation = Expectation(problem, draws=_draws(problem))
    for newest in device.newest_kernels():
        call = device.call(problem, deterministic)
        expectation.check({**call.forward(), **call.backward()}, f"on the GPU, kernels of {newest / 10}")
    if has_cpu_kernels(device):
        on_cpu = Call(device.kernels, problem, workers=min(8, os.cpu_count() or 1))
        expectation.check({**on_cpu.forward(), **on_cpu.backward()}, "on the CPU")


def _draws(problem: Problem) -> int:
    """Number of draws: several for short problems, where a few roundings may cancel by chance."""
    return 4 if min(problem.seqlen_q, problem.seqlen_k) < _SHORT else 1


def has_cpu_kernels(device: Device) -> bool:
    return hasattr(device.kernels._library, "pfm_cpu_isa")


def refusals(device: Device) -> None:
    wrong: list[tuple[str, Any, tuple[int, ...]]] = [
        ("dtype", DTYPES["float32"], (UNSUPPORTED,)),
        ("head_dim", 60, (UNSUPPORTED,)),
        ("head_dim", 264, (INVALID_ARGUMENT, UNSUPPORTED)),
        ("softcap", 1.0, (UNSUPPORTED,)),
        ("query", Tensor(8, 1024, 128, 64), (UNSUPPORTED, INVALID_ARGUMENT)),
    ]
    for field, value, statuses in wrong:
        call = device.call(Problem(dtype="bfloat16", head_dim=64, head_dim_v=64))
        setattr(call.params, field, value)
        _expect_refusal(statuses, lambda call=call: call.kernels.forward(call.params), f"{field}={value}")
    call = device.call(Problem(dtype="bfloat16", head_dim=64, head_dim_v=64))
    call.params.workspace_size = 0
    _expect_refusal((WORKSPACE_TOO_SMALL,), lambda: call.kernels.forward(call.params), "no workspace")


def _expect_refusal(statuses: tuple[int, ...], run: Any, what: str) -> None:
    try:
        run()
    except KernelError as refused:
        assert refused.status in statuses, f"{what}: status {refused.status}, expected {statuses}: {refused.message}"
        assert refused.message, f"{what}: the error has no message"
        return
    raise AssertionError(f"{what}: accepted, expected an error")


def failed_launch(settings: Settings) -> None:
    """Run failed_launch.py as a subprocess, because it loses the GPU context."""
    if settings.emulated:
        raise NotRun("the emulator reports a bad address at the access")
    command = [sys.executable, "-m", f"{__package__}.failed_launch", str(settings.library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"status {done.returncode}: {(done.stdout + done.stderr)[-1000:]}"
