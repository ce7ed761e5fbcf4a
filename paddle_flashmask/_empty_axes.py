"""Calls without query heads or without value columns, which the kernels do not take.

The empty axis is filled with zeros before the operator and cut from its results. So lse and the gradients, which are
not all empty, come from the kernels, and autograd sees every input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import paddle

from . import _arguments

if TYPE_CHECKING:
    from paddle import Tensor

_HEADS_AXIS, _DIM_AXIS = 2, 3


def has_empty_axis(query: Tensor, value: Tensor) -> bool:
    """Return whether Hq or Dv is 0."""
    return 0 in (query.shape[_HEADS_AXIS], value.shape[_DIM_AXIS])


def fill(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tensors with at least one head and one column each."""
    value = _extended(value, _DIM_AXIS, _arguments.GPU_HEAD_DIM_STEP)
    key, value = _extended(key, _HEADS_AXIS, 1), _extended(value, _HEADS_AXIS, 1)
    return _extended(query, _HEADS_AXIS, key.shape[_HEADS_AXIS]), key, value


def cut(out: Tensor, lse: Tensor, heads: int, head_dim_v: int) -> tuple[Tensor, Tensor]:
    """Return the results of a call with filled axes as [B, Sq, heads, head_dim_v] and [B, heads, Sq]."""
    return out[:, :, :heads, :head_dim_v], lse[:, :heads]


def _extended(tensor: Tensor, axis: int, size: int) -> Tensor:
    """Return `tensor` with `size` zeros along an empty axis, and any other tensor as it is."""
    if tensor.shape[axis] != 0:
        return tensor
    shape = list(tensor.shape)
    shape[axis] = size
    # Paddle lacks the gradient of concat in bfloat16 on the CPU. `tensor` has no element that a cast could round.
    return paddle.concat([tensor.astype("float32"), paddle.zeros(shape, "float32")], axis=axis).astype(tensor.dtype)
