"""Every error of the C ABI: status and message."""

from __future__ import annotations

import ctypes
import re
import threading

import numpy as np
import pytest
from support.call import Call
from support.library import INVALID_ARGUMENT, UNSUPPORTED, WORKSPACE_TOO_SMALL, KernelError, Kernels, Params
from support.problem import Problem


@pytest.fixture
def call(kernels: Kernels) -> Call:
    """Valid call with every optional input, whose `params` a test may spoil."""
    startend = np.full((2, 2, 24, 1), 9, np.int32)
    blocks = np.ones((2, 2, 1, 1), np.int32)
    problem = Problem(
        batch=2, seqlen_q=20, seqlen_k=24, heads_q=4, heads_kv=2, heads_mask=2, head_dim=8, head_dim_v=12, causal=True,
        startend=startend, block_mask=blocks, sink=True, dlse=True, dropout=0.1,
    )  # fmt: skip
    call = Call(kernels, problem)
    call.forward()
    call.backward()
    return call


def spoil(params: Params, name: str, value) -> None:
    *path, last = name.split(".")
    for part in path:
        params = getattr(params, part)
    setattr(params, last, value)


HUGE = 2**27
DESCRIPTION = [
    ("struct_size", 8, INVALID_ARGUMENT, "struct_size is 8, this library expects"),
    ("version", 2, INVALID_ARGUMENT, "version is 2, this library expects 1"),
    ("device", 2, INVALID_ARGUMENT, "device is 2, expected 0 (CPU) or 1 (CUDA)"),
    ("dtype", 3, INVALID_ARGUMENT, "dtype is 3, expected 0 (float32), 1 (bfloat16) or 2 (float16)"),
    ("batch", -1, INVALID_ARGUMENT, "batch is -1, expected >= 0"),
    ("batch", 2**29, INVALID_ARGUMENT, "batch * heads_q is 536870912 * 4, expected < 2^31"),
    ("seqlen_q", -1, INVALID_ARGUMENT, "seqlen_q is -1, expected 0 <= seqlen_q < 2^27"),
    ("seqlen_q", HUGE, INVALID_ARGUMENT, "seqlen_q is 134217728, expected 0 <= seqlen_q < 2^27"),
    ("seqlen_k", HUGE, INVALID_ARGUMENT, "seqlen_k is 134217728, expected 0 <= seqlen_k < 2^27"),
    ("seqlen_k", -3, INVALID_ARGUMENT, "seqlen_k is -3, expected 0 <= seqlen_k < 2^27"),
    ("heads_q", 0, INVALID_ARGUMENT, "heads_q is 0, expected >= 1"),
    ("heads_q", 2**62, INVALID_ARGUMENT, "expected < 2^31"),
    ("heads_kv", 3, INVALID_ARGUMENT, "heads_kv is 3, expected a divisor of heads_q = 4"),
    ("heads_kv", 0, INVALID_ARGUMENT, "heads_kv is 0, expected a divisor of heads_q = 4"),
    ("heads_mask", 3, INVALID_ARGUMENT, "heads_mask is 3, expected a divisor of heads_q = 4"),
    ("heads_mask", 0, INVALID_ARGUMENT, "heads_mask is 0, expected a divisor of heads_q = 4"),
    ("head_dim", 0, INVALID_ARGUMENT, "head_dim is 0, expected 1 to 256"),
    ("head_dim", 257, INVALID_ARGUMENT, "head_dim is 257, expected 1 to 256"),
    ("head_dim_v", 300, INVALID_ARGUMENT, "head_dim_v is 300, expected 1 to 256"),
    ("causal", 2, INVALID_ARGUMENT, "causal is 2, expected 0 or 1"),
    ("causal", 0, INVALID_ARGUMENT, "startend_bounds is 1 with causal = 0, expected 0, 2 or 4"),
    ("startend_bounds", 4, INVALID_ARGUMENT, "startend_bounds is 4 with causal = 1, expected 0, 1 or 2"),
    ("startend_bounds", 3, INVALID_ARGUMENT, "startend_bounds is 3 with causal = 1, expected 0, 1 or 2"),
    ("startend_stride_head", -1, INVALID_ARGUMENT, "startend strides are"),
    ("block_mask_stride_batch", -1, INVALID_ARGUMENT, "block_mask strides are -1"),
    ("causal_offset", HUGE, INVALID_ARGUMENT, "causal_offset is 134217728, expected -2^27 < causal_offset < 2^27"),
    ("window_left", -2, INVALID_ARGUMENT, "window_left is -2, expected -1 (unbounded) or 0 to 2^27 - 1"),
    ("window_right", HUGE, INVALID_ARGUMENT, "window_right is 134217728, expected -1 (unbounded) or 0 to 2^27 - 1"),
    ("deterministic", 5, INVALID_ARGUMENT, "deterministic is 5, expected 0 or 1"),
    ("softmax_scale", float("nan"), INVALID_ARGUMENT, "softmax_scale is nan, expected a finite number"),
    ("dropout", 1.0, INVALID_ARGUMENT, "dropout is 1, expected 0 <= dropout < 1"),
    ("dropout", -0.5, INVALID_ARGUMENT, "dropout is -0.5, expected 0 <= dropout < 1"),
    ("dropout", float("nan"), INVALID_ARGUMENT, "dropout is nan, expected 0 <= dropout < 1"),
    (
        "dropout_row",
        8,
        INVALID_ARGUMENT,
        "dropout_row and dropout_key are 8, 0, expected multiples of 16, 0 to 2^27 - 16",
    ),
    ("dropout_key", -16, INVALID_ARGUMENT, "dropout_row and dropout_key are 0, -16"),
    ("softcap", 1.0, UNSUPPORTED, "softcap is 1, but only 0 is implemented"),
    ("num_splits", 2, UNSUPPORTED, "num_splits is 2, but only 0 is implemented"),
    ("num_workers", -1, INVALID_ARGUMENT, "num_workers is -1, expected >= 0"),
    ("stream", 64, INVALID_ARGUMENT, "stream is set, expected null on the CPU"),
]
POINTERS = [
    ("query.data", None, INVALID_ARGUMENT, "query.data is null"),
    ("key.data", None, INVALID_ARGUMENT, "key.data is null"),
    ("value.data", None, INVALID_ARGUMENT, "value.data is null"),
    ("lse", None, INVALID_ARGUMENT, "lse is null"),
    ("startend_row_indices", None, INVALID_ARGUMENT, "startend_row_indices is null, but startend_bounds is 1"),
    ("query.stride_batch", -1, INVALID_ARGUMENT, "query.stride_batch is -1, expected 0 to 2^60 / 2"),
    ("key.stride_seq", 2**60, INVALID_ARGUMENT, "key.stride_seq is 1152921504606846976, expected 0 to 2^60 / 24"),
    ("workspace_size", 0, WORKSPACE_TOO_SMALL, "workspace_size is 0, expected at least"),
    ("workspace", None, INVALID_ARGUMENT, "workspace is null, expected"),
    ("workspace", 4096 + 32, INVALID_ARGUMENT, "workspace is at 0x1020, expected a multiple of 64 bytes"),
]
FORWARD = [
    ("out.data", None, INVALID_ARGUMENT, "out.data is null"),
    (
        "out.stride_head",
        4,
        INVALID_ARGUMENT,
        "out.stride_head is 4, expected at least the head dim 12 of a tensor",
    ),
]
BACKWARD = [
    ("out.data", None, INVALID_ARGUMENT, "out.data is null"),
    ("dout.stride_seq", -4, INVALID_ARGUMENT, "dout.stride_seq is -4, expected 0 to 2^60 / 20"),
    ("dquery.stride_seq", 0, INVALID_ARGUMENT, "dquery.stride_seq is 0, expected at least the head dim 8"),
    ("dvalue.stride_batch", 0, INVALID_ARGUMENT, "dvalue.stride_batch is 0, expected at least the head dim 12"),
    ("learnable_sink", None, INVALID_ARGUMENT, "dsink is set, but learnable_sink is null"),
]


def expect(run, status: int, message: str) -> None:
    with pytest.raises(KernelError, match=re.escape(message)) as caught:
        run()
    assert caught.value.status == status


@pytest.mark.parametrize(("name", "value", "status", "message"), DESCRIPTION, ids=str)
def test_every_function_refuses_a_bad_description(call, kernels, name, value, status, message) -> None:
    spoil(call.params, name, value)
    for function in (kernels.forward_workspace, kernels.backward_workspace, kernels.forward, kernels.backward):
        expect(lambda function=function: function(call.params), status, message)


@pytest.mark.parametrize(("name", "value", "status", "message"), POINTERS + FORWARD, ids=str)
def test_forward_refuses(call, kernels, name, value, status, message) -> None:
    call.params.workspace_size = 1 << 30
    spoil(call.params, name, value)
    expect(lambda: kernels.forward(call.params), status, message)


@pytest.mark.parametrize(("name", "value", "status", "message"), POINTERS + BACKWARD, ids=str)
def test_backward_refuses(call, kernels, name, value, status, message) -> None:
    call.params.workspace_size = 1 << 30
    spoil(call.params, name, value)
    expect(lambda: kernels.backward(call.params), status, message)


def test_workspace_queries_read_no_pointer(call, kernels) -> None:
    bare = Params()
    ctypes.pointer(bare)[0] = call.params
    for name in ("query", "key", "value", "out", "dout", "dquery", "dkey", "dvalue"):
        getattr(bare, name).data = None
    for name in ("lse", "startend_row_indices", "dlse", "dsink", "workspace"):
        setattr(bare, name, None)
    assert kernels.forward_workspace(bare) == kernels.forward_workspace(call.params)
    assert kernels.backward_workspace(bare) == kernels.backward_workspace(call.params)


def test_zero_workers_means_the_default_in_query_and_call(call, kernels) -> None:
    for query in (kernels.forward_workspace, kernels.backward_workspace):
        call.params.num_workers = 0
        unspecified = query(call.params)
        call.params.num_workers = kernels.default_threads()
        assert query(call.params) == unspecified
    call.params.num_workers = 0
    call.forward()
    call.backward()


def test_null_arguments(kernels) -> None:
    library = ctypes.CDLL(str(kernels.path))
    for name in ("pfm_forward", "pfm_backward", "pfm_forward_workspace", "pfm_backward_workspace"):
        arguments = [None, None] if name.endswith("workspace") else [None]
        assert getattr(library, name)(*arguments) == INVALID_ARGUMENT
        assert kernels.last_error() == "params is null"
    assert library.pfm_set_cpu_isa(None) == INVALID_ARGUMENT


def test_null_result_of_a_query(call, kernels) -> None:
    library = ctypes.CDLL(str(kernels.path))
    assert library.pfm_forward_workspace(ctypes.byref(call.params), None) == INVALID_ARGUMENT
    assert kernels.last_error() == "bytes is null"


def test_unknown_instruction_set(kernels) -> None:
    before = kernels.isa()
    expect(lambda: kernels.set_isa("sse9"), UNSUPPORTED, 'instruction set "sse9" is not in this build')
    assert kernels.isa() == before


def test_the_last_error_belongs_to_its_thread(call, kernels) -> None:
    spoil(call.params, "batch", -1)
    expect(lambda: kernels.forward(call.params), INVALID_ARGUMENT, "batch is -1")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(kernels.last_error()))
    thread.start()
    thread.join()
    assert seen == [""] and "batch is -1" in kernels.last_error()
