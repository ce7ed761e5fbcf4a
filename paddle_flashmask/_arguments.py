"""Checks of the operator's arguments. Every message names the argument, its value and the expected one.

A size that a static graph does not know (-1) is checked by the operator when the graph runs.
"""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import paddle

from . import _library

MAX_HEAD_DIM = 256
GPU_HEAD_DIM_STEP = 8
BLOCK_MASK_SIZE = 128
MAX_WINDOW = 2**27 - 1
UNKNOWN = -1
UNBOUNDED = -1  # side of a window

_FLOATING = (paddle.float32, paddle.bfloat16, paddle.float16)


class MaskTypeError(TypeError, AssertionError):
    """TypeError of a mask tensor, also the AssertionError that Paddle's operator raises there."""


class MaskValueError(ValueError, AssertionError):
    """ValueError of a mask tensor, also the AssertionError that Paddle's operator raises there."""


@contextlib.contextmanager
def _asserted_by_paddle() -> Iterator[None]:
    """Make the errors of the block assertion errors too."""
    try:
        yield
    except TypeError as error:
        raise MaskTypeError(*error.args) from None
    except ValueError as error:
        raise MaskValueError(*error.args) from None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (paddle.Tensor, paddle.pir.Value, paddle.static.Variable))


def check_tensor(name: str, value: Any, rank: int) -> None:
    """Raise TypeError unless `value` is a Paddle tensor, ValueError unless it has `rank` axes."""
    if not _is_tensor(value):
        raise TypeError(f"{name} is {type(value).__name__}, expected a paddle.Tensor")
    if len(value.shape) != rank:
        raise ValueError(f"{name} has {len(value.shape)} axes (shape {list(value.shape)}), expected {rank}")


def check_dtype(name: str, value: Any, allowed: Sequence[Any], why: str = "") -> None:
    """Raise TypeError unless the dtype of `value` is allowed; `why` ends the message."""
    if value.dtype not in allowed:
        names = " or ".join(str(dtype).replace("paddle.", "") for dtype in allowed)
        raise TypeError(f"{name} has dtype {str(value.dtype).replace('paddle.', '')}, expected {names}{why}")


def check_shape(name: str, value: Any, expected: Sequence[int], axes: str) -> None:
    """Raise ValueError unless the shapes agree; `axes` names the expected shape, as in "[B, Sk, Hkv, D]"."""
    shape = list(value.shape)
    known = all(UNKNOWN in (got, want) or got == want for got, want in zip(shape, expected, strict=True))
    if not known:
        raise ValueError(f"{name} has shape {shape}, expected {axes} = {list(expected)}")


def check_qkv(query: Any, key: Any, value: Any) -> None:
    """Check query [B, Sq, Hq, D], key [B, Sk, Hkv, D] and value [B, Sk, Hkv, Dv], all of one floating dtype."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        check_tensor(name, tensor, rank=4)
    check_dtype("query", query, _FLOATING)
    check_dtype("key", key, [query.dtype], ", the dtype of query")
    check_dtype("value", value, [query.dtype], ", the dtype of query")
    batch, _, heads_q, head_dim = query.shape
    _, seqlen_k, heads_kv, _ = key.shape
    check_shape("key", key, [batch, seqlen_k, heads_kv, head_dim], "[B, Sk, Hkv, D]")
    check_shape("value", value, [batch, seqlen_k, heads_kv, value.shape[3]], "[B, Sk, Hkv, Dv]")
    for name, dim, smallest in (("query", head_dim, 1), ("value", value.shape[3], 0)):
        if dim != UNKNOWN and not smallest <= dim <= MAX_HEAD_DIM:
            raise ValueError(f"the head dim of {name} is {dim}, expected {smallest} to {MAX_HEAD_DIM}")
    check_divides("key", "heads", heads_kv, heads_q)
    if paddle.is_compiled_with_cuda() and paddle.in_dynamic_mode() and query.place.is_gpu_place():
        check_gpu(query, value, _library.cuda_architectures())


def check_gpu(query: Any, value: Any, architectures: str) -> None:
    """Check the limits of the CUDA kernels; `architectures` are those of the build, "" without CUDA kernels."""
    if not architectures:
        raise NotImplementedError(
            f"query is on {query.place}, but there are no CUDA kernels in this build: rebuild with PFM_CUDA=1 where "
            "nvcc is installed, or move the tensors to the CPU"
        )
    current, device = paddle.device.get_device(), f"gpu:{query.place.gpu_device_id()}"
    if current.startswith("gpu:") and current != device:  # Paddle runs the operator on `current`
        raise ValueError(
            f"query is on {device}, but Paddle's device is {current}: call paddle.set_device({device!r}) first"
        )
    check_dtype("query", query, [paddle.bfloat16, paddle.float16], " on a GPU")
    for name, dim in (("query", query.shape[3]), ("value", value.shape[3])):
        if dim % GPU_HEAD_DIM_STEP != 0:
            raise NotImplementedError(
                f"the head dim of {name} is {dim}, on a GPU expected a multiple of {GPU_HEAD_DIM_STEP}: pad with zeros"
            )


def check_divides(name: str, what: str, count: int, heads_q: int) -> None:
    """Raise ValueError unless `count` divides the number of query heads. Every count divides 0."""
    if UNKNOWN in (count, heads_q) or heads_q == 0:
        return
    if count < 1 or heads_q % count != 0:
        raise ValueError(f"{name} has {count} {what}, expected a divisor of the {heads_q} heads of query")


def check_startend_row_indices(indices: Any, query: Any, seqlen_k: int, causal: bool) -> None:
    """Check int32 [B, Hm, Sk, n] with n = 1 or 2 if causal, else 2 or 4, and Hm a divisor of Hq."""
    with _asserted_by_paddle():
        check_tensor("startend_row_indices", indices, rank=4)
        check_dtype("startend_row_indices", indices, [paddle.int32])
        heads, bounds = indices.shape[1], indices.shape[3]
        check_shape("startend_row_indices", indices, [query.shape[0], heads, seqlen_k, bounds], "[B, Hm, Sk, n]")
        check_divides("startend_row_indices", "mask heads (Hm)", heads, query.shape[2])
    allowed = (1, 2) if causal else (2, 4)
    if bounds not in allowed:
        expected = f"{allowed[0]} or {allowed[1]} with causal={causal}"
        raise ValueError(f"startend_row_indices has {bounds} values per key, expected {expected}")


def check_block_mask(block_mask: Any, query: Any, key: Any, indices: Any | None) -> None:
    """Check int32 [B, Hm, ceil(Sq/128), ceil(Sk/128)] with the Hm of startend_row_indices, or any divisor of Hq."""
    with _asserted_by_paddle():
        check_tensor("block_mask", block_mask, rank=4)
        check_dtype("block_mask", block_mask, [paddle.int32])
        heads = block_mask.shape[1] if indices is None else indices.shape[1]
        blocks = [n if n == UNKNOWN else -(-n // BLOCK_MASK_SIZE) for n in (query.shape[1], key.shape[1])]
        check_shape("block_mask", block_mask, [query.shape[0], heads, *blocks], "[B, Hm, ceil(Sq/128), ceil(Sk/128)]")
        check_divides("block_mask", "mask heads (Hm)", heads, query.shape[2])


def check_learnable_sink(sink: Any, query: Any) -> None:
    """Check one floating value per query head, [Hq]."""
    check_tensor("learnable_sink", sink, rank=1)
    check_dtype("learnable_sink", sink, _FLOATING)
    check_shape("learnable_sink", sink, [query.shape[2]], "[Hq]")


def check_seed_offset(seed_offset: Any) -> None:
    """Check int64 or int32 [2], (seed, offset)."""
    check_tensor("fixed_seed_offset", seed_offset, rank=1)
    check_dtype("fixed_seed_offset", seed_offset, [paddle.int64, paddle.int32])
    check_shape("fixed_seed_offset", seed_offset, [2], "[2] (seed, offset)")


def window_sides(window_size: Any, causal: bool) -> tuple[int, int]:
    """Return (left, right) from an int, a pair, None or, with causal, (left,); -1 is unbounded."""
    if window_size is None:
        return UNBOUNDED, UNBOUNDED
    sides = (window_size, window_size) if isinstance(window_size, numbers.Integral) else window_size
    if isinstance(sides, (tuple, list)) and len(sides) == 1 and causal:  # causal bounds the right side
        sides = (*sides, UNBOUNDED)
    is_pair = isinstance(sides, (tuple, list)) and len(sides) == 2
    if not is_pair or any(isinstance(s, bool) or not isinstance(s, numbers.Integral) for s in sides):
        raise TypeError(
            f"window_size is {window_size!r}, expected None, an int or a pair of ints (left, right), "
            "or (left,) with causal=True"
        )
    if min(sides) < UNBOUNDED or max(sides) > MAX_WINDOW:
        raise ValueError(f"window_size is {window_size!r}, expected 0 to 2^27 - 1, or -1 for an unbounded side")
    return int(sides[0]), int(sides[1])


def dropout_probability(dropout: Any) -> float:
    """Return `dropout` as a float in [0, 1)."""
    if isinstance(dropout, bool) or not isinstance(dropout, numbers.Real):
        raise TypeError(f"dropout is {dropout!r}, expected a number in [0, 1)")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is {dropout}, expected a number in [0, 1)")
    return float(dropout)


def scale_or_default(softmax_scale: Any, query: Any) -> float:
    """Return `softmax_scale` as a float, 1 / sqrt(D) if it is None."""
    if softmax_scale is None:
        head_dim = query.shape[3]
        if head_dim == UNKNOWN:
            raise ValueError("the head dim of query is unknown in this graph: give it, or softmax_scale")
        return 1.0 / math.sqrt(head_dim)
    if isinstance(softmax_scale, bool) or not isinstance(softmax_scale, numbers.Real):
        raise TypeError(f"softmax_scale is {softmax_scale!r}, expected a finite number or None")
    if not abs(softmax_scale) <= np.finfo(np.float32).max:
        raise ValueError(f"softmax_scale is {softmax_scale}, expected a finite number of float32")
    return float(softmax_scale)


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool. TypeError unless it is a Python or NumPy bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected a bool")
    return bool(value)


def check_group(group: Any) -> None:
    """Raise NotImplementedError for a process group of more than one rank.

    With one, Paddle's operator reads the keys of all ranks (Paddle after 3.3; FlashMask 4).
    """
    if group is not None and getattr(group, "nranks", None) != 1:
        raise NotImplementedError(
            f"group is {group}, expected None or a group of one rank: this operator sees the keys of its own process; "
            "paddle_flashmask.distributed.flashmask_attention sees those of all ranks"
        )
