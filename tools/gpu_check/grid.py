"""Test grid through the C ABI: the GPU and CPU kernels of one library against float64.

Each kernel generation and direction is a case of its own, so that a failure of one hides no other.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

import numpy as np
from support.call import Call
from support.compare import SLACK, Expectation
from support.library import DTYPES, INVALID_ARGUMENT, UNSUPPORTED, WORKSPACE_TOO_SMALL, KernelError, Tensor
from support.problem import Problem

from .cases import backward_dims_90, grid, kernel_row, name_of, problem_of, runs_on_90, stratum_90
from .device import Device, open_device, with_generation
from .error_map import error_map
from .outcome import Case, NotRun
from .plan import Settings
from .processes import run_program

DIRECTIONS = ("forward", "backward")
CPU = 0  # in place of a compute capability
_SHORT = 100


class Checks:
    """Device and, for consecutive cases of one row, its reference; both are made when first used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: tuple[str, Expectation] | None = None

    @functools.cached_property
    def device(self) -> Device:
        return open_device(self._settings)

    def check(self, name: str, choice: dict[str, Any], generation: int, direction: str) -> None:
        device = self.device  # opened first: without a GPU there is nothing to compare with
        if not self._known or self._known[0] != name:
            problem = problem_of(choice)
            self._known = name, Expectation(problem, draws=_draws(problem))
        compare(device, self._known[1], generation, direction, choice.get("deterministic", False))


def cases(settings: Settings) -> list[Case]:
    """The stratum of 9.0, then the grid on the 8.0 kernels, then on the CPU."""
    checks = Checks(settings)
    listed = []
    for index, choice in enumerate(stratum_90(settings.emulated)):
        name = name_of(index, choice)
        directions = DIRECTIONS if choice["dims"] in backward_dims_90() else DIRECTIONS[:1]
        listed += [_case(checks, name, choice, 90, direction) for direction in directions]
    rows = [(name_of(index, choice), choice) for index, choice in enumerate(grid(settings.emulated))]
    for name, choice in rows:
        listed += [_case(checks, name, choice, 80, direction) for direction in DIRECTIONS]
    for name, choice in rows:
        listed.append(_case(checks, name, choice, CPU, "both"))
    listed.append(Case("bad arguments are refused", lambda: refusals(checks.device)))
    if not settings.emulated:  # the emulator reports a bad address at the access
        listed.append(Case("a failed launch surfaces", lambda: failed_launch(settings), 60.0))
    return listed


def _case(checks: Checks, name: str, choice: dict[str, Any], generation: int, direction: str) -> Case:
    where = f"{generation / 10} {direction}" if generation else "CPU"
    is_backward, dims = direction == "backward", choice["dims"]
    in_turn = is_backward and choice.get("deterministic", False)
    row = kernel_row(generation, direction, dims, in_turn) if generation else ""
    index, rest = name.split(" ", 1)
    run = functools.partial(checks.check, name, choice, generation, direction)
    after = (kernel_row(generation, "forward", dims),) if is_backward else ()
    return Case(f"{index} {where} {rest}", run, row=row, after=after)


def compare(
    device: Device, expectation: Expectation, generation: int, direction: str, deterministic: bool = False
) -> None:
    """Check one direction of one kernel generation, or both directions of the CPU kernels for CPU.

    The gradients of a backward are those of a forward on the same device.

    Raises:
        AssertionError: a result breaks the error rule of tests/support.
        NotRun: the device or the library lacks these kernels.
    """
    problem = expectation.problem
    if generation == CPU:
        if not has_cpu_kernels(device):
            raise NotRun("the library has no CPU kernels")
        on_cpu = Call(device.kernels, problem, workers=min(8, os.cpu_count() or 1))
        judge(expectation, {**on_cpu.forward(), **on_cpu.backward()}, "on the CPU")
        return
    with with_generation(device.kernels, generation):
        if generation == 90 and not runs_on_90(problem):
            raise NotRun("the 9.0 kernels do not take this problem")
        call = device.call(problem, deterministic)
        results = call.forward()
        if direction == "backward":
            results = call.backward()
    judge(expectation, results, f"on the GPU, kernels of {generation / 10}, {direction}")


def judge(expectation: Expectation, results: dict[str, np.ndarray], context: str) -> None:
    """Expectation.check, with a map of the wrong tiles in the message."""
    for name, result in results.items():
        try:
            expectation.check({name: result}, context)
        except AssertionError as failure:
            scale = float(expectation.truth[f"scale of {name}"])
            tolerance = expectation.factor * expectation.plain_errors[name] + SLACK * scale
            shown = error_map(name, result, expectation.truth[name], tolerance)
            raise AssertionError(f"{failure}\n{shown}") from None


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
    command = [sys.executable, "-m", f"{__package__}.failed_launch", str(settings.library)]
    done = run_program(command, 60.0)
    assert done.returncode == 0, f"status {done.returncode}: {done.stdout[-1000:]}"
