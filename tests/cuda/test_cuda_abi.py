"""Rejection of bad input with device CUDA: each ends in a status and a message before any kernel runs."""

from __future__ import annotations

import ctypes

import pytest
from support.call import Call
from support.emulated import CUDA, EmulatedCall, EmulatedKernels
from support.library import KernelError, Kernels
from support.problem import Problem

INVALID, UNSUPPORTED, WORKSPACE, DEVICE_ERROR = 1, 2, 3, 4


@pytest.fixture
def call(emulated: EmulatedKernels) -> EmulatedCall:
    emulated.configure(1)
    return EmulatedCall(emulated, Problem(batch=1, seqlen_q=8, seqlen_k=8, dtype="bfloat16"))


def assert_refused(call: Call, status: int, message: str) -> None:
    with pytest.raises(KernelError, match=message) as caught:
        call.forward()
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"device": 2}, INVALID, r"device is 2, expected 0 \(CPU\) or 1 \(CUDA\)"),
        ({"dtype": 0}, UNSUPPORTED, "dtype is float32, the CUDA kernels support float16 and bfloat16"),
        ({"head_dim": 20}, UNSUPPORTED, "head_dim is 20 and head_dim_v 16, the CUDA kernels need multiples of 8"),
        ({"head_dim_v": 12}, UNSUPPORTED, "head_dim is 16 and head_dim_v 12, the CUDA kernels need multiples of 8"),
        ({"head_dim": 264}, INVALID, "head_dim is 264, expected 1 to 256"),
        ({"heads_kv": 3}, INVALID, "heads_kv is 3, expected a divisor of heads_q = 2"),
        ({"lse": None}, INVALID, "lse is null"),
        ({"softcap": 1.0}, UNSUPPORTED, "softcap is 1, but only 0 is implemented"),
        ({"seqlen_q": 2**26, "batch": 2**14}, UNSUPPORTED, "the call would need [0-9]+ blocks, at most 2147483647"),
    ],
)
def test_description(call: EmulatedCall, changes: dict, status: int, message: str) -> None:
    for name, value in changes.items():
        setattr(call.params, name, value)
    assert_refused(call, status, message)


@pytest.mark.parametrize("name", ["query", "key", "value", "out"])
def test_tensors(call: EmulatedCall, name: str) -> None:
    tensor = getattr(call.params, name)
    address = tensor.data
    tensor.data = None
    assert_refused(call, INVALID, f"{name}.data is null")
    tensor.data = address + 2
    assert_refused(call, UNSUPPORTED, f"{name} is at 0x[0-9a-f]+, the CUDA kernels need a multiple of 16 bytes")
    tensor.data = address
    tensor.stride_seq += 4
    assert_refused(call, UNSUPPORTED, f"{name}.stride_seq is [0-9]+, the CUDA kernels need a multiple of 8 elements")


def test_workspace(call: EmulatedCall) -> None:
    params = call.params
    params.workspace_size = call.kernels.forward_workspace(params) - 1
    memory = ctypes.create_string_buffer(params.workspace_size + 512)
    aligned = -(-ctypes.addressof(memory) // 256) * 256
    params.workspace = aligned
    for size, address, status, message in (
        (params.workspace_size, aligned, WORKSPACE, "workspace_size is [0-9]+, expected at least [0-9]+"),
        (params.workspace_size + 1, aligned + 64, INVALID, "workspace is at 0x[0-9a-f]+, expected a multiple of 256"),
        (params.workspace_size + 1, None, INVALID, "workspace is null, expected [0-9]+ bytes"),
    ):
        params.workspace_size, params.workspace = size, address
        with pytest.raises(KernelError, match=message) as caught:
            call.kernels.forward(params)
        assert caught.value.status == status
        params.workspace_size = call.kernels.forward_workspace(params) - 1


def test_an_older_card(emulated: EmulatedKernels, call: EmulatedCall) -> None:
    emulated.configure(1, compute_capability=75)
    for run in (call.forward, call.backward):
        with pytest.raises(KernelError, match=r"compute capability is 7\.5 .*, expected 8\.0") as caught:
            run()
        assert caught.value.status == UNSUPPORTED


def test_the_library_of_this_build_says_what_is_missing(kernels: Kernels) -> None:
    """A library with CUDA kernels loads and runs on the CPU without a GPU or driver."""
    call = Call(kernels, Problem(batch=1, seqlen_q=8, seqlen_k=8, dtype="bfloat16"))
    call.forward()
    call.params.device = CUDA
    if not kernels.cuda_architectures():
        assert_refused(call, UNSUPPORTED, "device is CUDA, but this build has no CUDA kernels")
    elif not has_gpu(kernels):
        missing = r"GPU could not be read \(is there one, with a driver\?\): "
        assert_refused(call, DEVICE_ERROR, missing)
        with pytest.raises(KernelError, match=missing) as caught:
            call.backward()
        assert caught.value.status == DEVICE_ERROR


def has_gpu(kernels: Kernels) -> bool:
    try:
        return bool(kernels.cuda_compute_capability())
    except KernelError as error:
        assert error.status == DEVICE_ERROR
        return False


def test_what_the_library_says_of_itself(emulated: EmulatedKernels) -> None:
    emulated.configure(1, compute_capability=90)
    assert emulated.cuda_architectures() == "emulated"
    assert emulated.cuda_compute_capability() == 90


def test_kernels_of_a_later_architecture_can_be_left_out(emulated: EmulatedKernels) -> None:
    problem = Problem(batch=1, seqlen_q=256, seqlen_k=256, head_dim=128, head_dim_v=128, dtype="bfloat16")
    sizes = {}
    for capability in (80, 90):
        emulated.configure(1, compute_capability=capability)
        sizes[capability] = emulated.forward_workspace(EmulatedCall(emulated, problem).params)
    assert sizes[80] != sizes[90]
    try:
        for newest, size in ((80, sizes[80]), (90, sizes[90]), (0, sizes[90])):
            emulated.set_newest_cuda_kernels(newest)
            assert emulated.forward_workspace(EmulatedCall(emulated, problem).params) == size
        with pytest.raises(KernelError, match="compute_capability is 86, expected 90, 80, or 0"):
            emulated.set_newest_cuda_kernels(86)
    finally:
        emulated.set_newest_cuda_kernels(0)
