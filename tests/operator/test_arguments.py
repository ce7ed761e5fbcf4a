"""Errors for bad input: raised before any kernel runs, with the received and the expected value."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from paddle_flashmask import flashmask_attention
from paddle_flashmask._arguments import check_gpu


def zeros(*shape: int, dtype: str = "float32") -> paddle.Tensor:
    return paddle.zeros(shape, dtype=dtype)


def call(**changes):
    """Valid call (B 2, Sq 6, Sk 7, Hq 4, Hkv 2, D 8, Dv 5, causal) with some arguments replaced."""
    arguments = {
        "query": zeros(2, 6, 4, 8),
        "key": zeros(2, 7, 2, 8),
        "value": zeros(2, 7, 2, 5),
        "startend_row_indices": zeros(2, 1, 7, 1, dtype="int32"),
        "causal": True,
        **changes,
    }
    return flashmask_attention(**arguments)


def test_the_valid_call_is_valid() -> None:
    assert list(call().shape) == [2, 6, 4, 5]


def test_flags_may_be_numpy_bools() -> None:
    assert list(call(causal=np.bool_(True), deterministic=np.bool_(False)).shape) == [2, 6, 4, 5]


INT32 = {"dtype": "int32"}
REFUSED = [
    # query, key, value
    ({"query": np.zeros((2, 6, 4, 8))}, TypeError, "query is ndarray, expected a paddle.Tensor"),
    ({"key": None}, TypeError, "key is NoneType, expected a paddle.Tensor"),
    ({"query": zeros(2, 6, 32)}, ValueError, "query has 3 axes (shape [2, 6, 32]), expected 4"),
    ({"value": zeros(2, 7, 2, 5, 1)}, ValueError, "value has 5 axes (shape [2, 7, 2, 5, 1]), expected 4"),
    (
        {"query": zeros(2, 6, 4, 8, dtype="float64")},
        TypeError,
        "query has dtype float64, expected float32 or bfloat16 or float16",
    ),
    (
        {"key": zeros(2, 7, 2, 8, dtype="bfloat16")},
        TypeError,
        "key has dtype bfloat16, expected float32, the dtype of query",
    ),
    (
        {"value": zeros(2, 7, 2, 5, dtype="float16")},
        TypeError,
        "value has dtype float16, expected float32, the dtype of query",
    ),
    ({"key": zeros(3, 7, 2, 8)}, ValueError, "key has shape [3, 7, 2, 8], expected [B, Sk, Hkv, D] = [2, 7, 2, 8]"),
    ({"key": zeros(2, 7, 2, 9)}, ValueError, "key has shape [2, 7, 2, 9], expected [B, Sk, Hkv, D] = [2, 7, 2, 8]"),
    (
        {"value": zeros(2, 8, 2, 5)},
        ValueError,
        "value has shape [2, 8, 2, 5], expected [B, Sk, Hkv, Dv] = [2, 7, 2, 5]",
    ),
    (
        {"value": zeros(2, 7, 1, 5)},
        ValueError,
        "value has shape [2, 7, 1, 5], expected [B, Sk, Hkv, Dv] = [2, 7, 2, 5]",
    ),
    (
        {"key": zeros(2, 7, 3, 8), "value": zeros(2, 7, 3, 5)},
        ValueError,
        "key has 3 heads, expected a divisor of the 4 heads of query",
    ),
    (
        {"key": zeros(2, 7, 0, 8), "value": zeros(2, 7, 0, 5)},
        ValueError,
        "key has 0 heads, expected a divisor of the 4 heads of query",
    ),
    (
        {"query": zeros(2, 6, 4, 257), "key": zeros(2, 7, 2, 257)},
        ValueError,
        "the head dim of query is 257, expected 1 to 256",
    ),
    (
        {"query": zeros(2, 6, 4, 0), "key": zeros(2, 7, 2, 0)},
        ValueError,
        "the head dim of query is 0, expected 1 to 256",
    ),
    ({"value": zeros(2, 7, 2, 257)}, ValueError, "the head dim of value is 257, expected 0 to 256"),
    # startend_row_indices
    ({"startend_row_indices": [[1]]}, TypeError, "startend_row_indices is list, expected a paddle.Tensor"),
    (
        {"startend_row_indices": zeros(2, 1, 7, 1, dtype="int64")},
        TypeError,
        "startend_row_indices has dtype int64, expected int32",
    ),
    (
        {"startend_row_indices": zeros(2, 7, 1, **INT32)},
        ValueError,
        "startend_row_indices has 3 axes (shape [2, 7, 1]), expected 4",
    ),
    (
        {"startend_row_indices": zeros(1, 1, 7, 1, **INT32)},
        ValueError,
        "startend_row_indices has shape [1, 1, 7, 1], expected [B, Hm, Sk, n] = [2, 1, 7, 1]",
    ),
    (
        {"startend_row_indices": zeros(2, 1, 6, 1, **INT32)},
        ValueError,
        "startend_row_indices has shape [2, 1, 6, 1], expected [B, Hm, Sk, n] = [2, 1, 7, 1]",
    ),
    (
        {"startend_row_indices": zeros(2, 3, 7, 1, **INT32)},
        ValueError,
        "startend_row_indices has 3 mask heads (Hm), expected a divisor of the 4 heads of query",
    ),
    (
        {"startend_row_indices": zeros(2, 0, 7, 1, **INT32)},
        ValueError,
        "startend_row_indices has 0 mask heads (Hm), expected a divisor of the 4 heads of query",
    ),
    *(
        (
            {"startend_row_indices": zeros(2, 1, 7, n, **INT32), "causal": causal},
            ValueError,
            f"startend_row_indices has {n} values per key, expected {expected} with causal={causal}",
        )
        for n, causal, expected in (
            (4, True, "1 or 2"),
            (3, True, "1 or 2"),
            (1, False, "2 or 4"),
            (3, False, "2 or 4"),
        )
    ),
    # block_mask
    (
        {"block_mask": zeros(2, 1, 1, 1, dtype="bool")},
        TypeError,
        "block_mask has dtype bool, expected int32",
    ),
    (
        {"block_mask": zeros(2, 1, 2, 1, **INT32)},
        ValueError,
        "block_mask has shape [2, 1, 2, 1], expected [B, Hm, ceil(Sq/128), ceil(Sk/128)] = [2, 1, 1, 1]",
    ),
    (
        {"block_mask": zeros(2, 2, 1, 1, **INT32)},
        ValueError,
        "block_mask has shape [2, 2, 1, 1], expected [B, Hm, ceil(Sq/128), ceil(Sk/128)] = [2, 1, 1, 1]",
    ),
    (
        {"block_mask": zeros(2, 3, 1, 1, **INT32), "startend_row_indices": None},
        ValueError,
        "block_mask has 3 mask heads (Hm), expected a divisor of the 4 heads of query",
    ),
    # learnable_sink
    ({"learnable_sink": 1.0}, TypeError, "learnable_sink is float, expected a paddle.Tensor"),
    ({"learnable_sink": zeros(2)}, ValueError, "learnable_sink has shape [2], expected [Hq] = [4]"),
    ({"learnable_sink": zeros(4, 1)}, ValueError, "learnable_sink has 2 axes (shape [4, 1]), expected 1"),
    (
        {"learnable_sink": zeros(4, **INT32)},
        TypeError,
        "learnable_sink has dtype int32, expected float32 or bfloat16 or float16",
    ),
    # numbers and flags
    ({"causal": 1}, TypeError, "causal is 1, expected a bool"),
    ({"use_varlen": None}, TypeError, "use_varlen is None, expected a bool"),
    (
        {"group": SimpleNamespace(nranks=2)},
        NotImplementedError,
        "group is namespace(nranks=2), expected None or a group of one rank",
    ),
    ({"deterministic": "yes"}, TypeError, "deterministic is 'yes', expected a bool"),
    ({"dropout": -0.1}, ValueError, "dropout is -0.1, expected a number in [0, 1)"),
    ({"dropout": 1.0}, ValueError, "dropout is 1.0, expected a number in [0, 1)"),
    ({"dropout": float("nan")}, ValueError, "dropout is nan, expected a number in [0, 1)"),
    ({"dropout": "0.1"}, TypeError, "dropout is '0.1', expected a number in [0, 1)"),
    ({"softmax_scale": float("inf")}, ValueError, "softmax_scale is inf, expected a finite number"),
    ({"softmax_scale": 1e300}, ValueError, "softmax_scale is 1e+300, expected a finite number of float32"),
    ({"softmax_scale": "big"}, TypeError, "softmax_scale is 'big', expected a finite number or None"),
    ({"window_size": (1, 2, 3)}, TypeError, "window_size is (1, 2, 3), expected None, an int or a pair of ints"),
    (
        {"window_size": (3,), "causal": False, "startend_row_indices": None},
        TypeError,
        "window_size is (3,), expected None, an int or a pair of ints (left, right), or (left,) with causal=True",
    ),
    ({"window_size": (-2,)}, ValueError, "window_size is (-2,), expected 0 to 2^27 - 1, or -1 for an"),
    ({"window_size": 1.5}, TypeError, "window_size is 1.5, expected None, an int or a pair of ints"),
    ({"window_size": (3, -2)}, ValueError, "window_size is (3, -2), expected 0 to 2^27 - 1, or -1 for an"),
    ({"window_size": 2**64}, ValueError, f"window_size is {2**64}, expected 0 to 2^27 - 1, or -1 for"),
    (
        {"fixed_seed_offset": zeros(2)},
        TypeError,
        "fixed_seed_offset has dtype float32, expected int64 or int32",
    ),
    (
        {"fixed_seed_offset": zeros(3, dtype="int64")},
        ValueError,
        "fixed_seed_offset has shape [3], expected [2] (seed, offset) = [2]",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_refused(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call(**changes)


class Gpu:
    """Place of a tensor on a GPU."""

    def __str__(self) -> str:
        return "Place(gpu:0)"

    def gpu_device_id(self) -> int:
        return 0


def on_gpu(dtype: str = "bfloat16", head_dim: int = 64) -> SimpleNamespace:
    return SimpleNamespace(place=Gpu(), dtype=getattr(paddle, dtype), shape=[1, 4, 2, head_dim])


def test_a_gpu_without_kernels_is_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"query is on Place\(gpu:0\), but there are no CUDA.*PFM_CUDA=1"):
        check_gpu(on_gpu(), on_gpu(), "")


def test_what_only_the_cuda_kernels_refuse() -> None:
    check_gpu(on_gpu(), on_gpu(head_dim=8), "sm_80")
    with pytest.raises(TypeError, match="query has dtype float32, expected bfloat16 or float16 on a GPU"):
        check_gpu(on_gpu("float32"), on_gpu("float32"), "sm_80")
    with pytest.raises(NotImplementedError, match="the head dim of value is 20, on a GPU expected a multiple of 8"):
        check_gpu(on_gpu(), on_gpu(head_dim=20), "sm_80")


def test_another_gpu_than_the_current_one_is_refused(monkeypatch) -> None:
    for current in ("gpu:0", "cpu"):
        monkeypatch.setattr(paddle.device, "get_device", lambda current=current: current)
        check_gpu(on_gpu(), on_gpu(), "sm_80")
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:1")
    with pytest.raises(ValueError, match=r"query is on gpu:0, but Paddle's device is gpu:1: .*set_device\('gpu:0'\)"):
        check_gpu(on_gpu(), on_gpu(), "sm_80")


@pytest.mark.parametrize("name", ["paddle_flashmask_attention", "paddle_flashmask_attention_sink"])
def test_the_operator_itself_refuses_what_python_would(name: str) -> None:
    """The operator itself checks too, for saved graphs and other callers that bypass flashmask_attention."""
    query = zeros(2, 6, 4, 8)
    sink = [zeros(4)] if name.endswith("sink") else []

    def run(key=query, startend=None, block_mask=None, seed_offset=None, dropout=0.0, scale=1.0):
        inputs = (query, key, query, *sink, startend, block_mask, seed_offset)
        return paddle._C_ops._run_custom_op(name, *inputs, scale, True, -1, -1, dropout, False, 0, 0)

    assert len(run()) == 2
    for changes, message in (
        ({"key": zeros(2, 6, 4, 8, dtype="float16")}, "key has dtype float16, expected float32"),
        ({"key": zeros(2, 6, 4, 9)}, "axis 3 of key is 9, expected 8"),
        ({"key": zeros(2, 6, 32)}, "key has rank 3, expected 4"),
        ({"startend": zeros(2, 1, 6, 1)}, "startend_row_indices has dtype float32, expected int32"),
        ({"startend": zeros(2, 1, 6, 4, **INT32)}, "startend_bounds is 4 with causal = 1, expected 0, 1 or 2"),
        ({"startend": zeros(2, 3, 6, 1, **INT32)}, "heads_mask is 3, expected a divisor of heads_q = 4"),
        ({"block_mask": zeros(2, 1, 2, 1, **INT32)}, "axis 2 of block_mask is 2, expected 1"),
        ({"dropout": 0.5}, "dropout needs seed_offset"),
        ({"seed_offset": zeros(2)}, "seed_offset has dtype float32, expected int64"),
        ({"scale": float("nan")}, "softmax_scale is nan, expected a finite number"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            run(**changes)
