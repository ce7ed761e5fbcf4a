"""The public operator: checks, defaults and the dropout stream around the kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import paddle

from paddle_flashmask import _arguments, _empty_axes, _library

try:  # Paddle 3.3 and later: both graph tracers respect it
    from paddle.jit.marker import unified as _unified
except ImportError:  # only the tracer that rewrites source code respects it
    from paddle.jit import not_to_static as _unified

if TYPE_CHECKING:
    from paddle import Tensor
    from paddle.distributed.communication.group import Group

_library.load()

__all__ = ["flashmask_attention", "pad_lse"]

# Paddle draws integers below 2^31 on the CPU. Seed and offset together have 62 random bits.
_SEED_LIMIT = 2**31 - 1

_LSE_MULTIPLE = 128


# The code is valid in dynamic and static graphs as it is, so tracers must not transform it.
@_unified
def flashmask_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    startend_row_indices: Tensor | None = None,
    *,
    dropout: float = 0.0,
    causal: bool | None = False,
    window_size: int | tuple[int, ...] | None = None,
    return_softmax_lse: bool = False,
    return_seed_offset: bool = False,
    fixed_seed_offset: Tensor | None = None,
    rng_name: str = "",
    training: bool = True,
    name: str | None = None,
    softmax_scale: float | None = None,
    block_mask: Tensor | None = None,
    learnable_sink: Tensor | None = None,
    deterministic: bool | None = None,
    use_varlen: bool = False,
    group: Group | None = None,
) -> Tensor | list[Tensor]:
    """Compute attention with a column-sparse mask: softmax(query key^T * softmax_scale) value over the visible keys.

    The mask is the column-wise form of FlashMask (arXiv:2410.01359, section 4.1): key j is hidden from the query rows
    of at most two half-open intervals. The first 15 parameters are those of paddle.nn.functional.flashmask_attention,
    with the same meaning. Query i sees key j only if every rule below allows it:

    * startend_row_indices: i lies in no masked interval of key j. causal: n = 1 {LTS} masks [LTS, Sq), n = 2
      {LTS, LTE} masks [LTS, LTE). Not causal: n = 2 {LTS, UTE} masks [LTS, Sq) and [0, UTE), n = 4
      {LTS, LTE, UTS, UTE} masks [LTS, LTE) and [UTS, UTE). Values are absolute query rows, clipped to [0, Sq]. An
      interval whose end is not after its start is empty.
    * causal: j <= i + Sk - Sq (bottom-right aligned).
    * window_size (left, right): i + Sk - Sq - left <= j <= i + Sk - Sq + right; -1 is unbounded, an int is both sides,
      (left,) goes with causal.
    * block_mask: the 128 x 128 block of (i, j) holds a non-zero value.

    A query that sees no key has out = 0 and lse = -inf (with a sink: lse = sink of its head) and passes no gradient to
    query, key and value. Gradients flow through out and lse. On the CPU, NaN and infinity reach only the results that
    visible pairs connect with them.

    Args:
        query: [B, Sq, Hq, D], float32 (CPU only), bfloat16 or float16. D and Dv are 1 to 256; on a GPU they are
            multiples of 8.
        key: [B, Sk, Hkv, D], the dtype of query. Hkv divides Hq; query head h uses key head h // (Hq / Hkv).
        value: [B, Sk, Hkv, Dv], the dtype of query. With Hq = 0 or Dv = 0, out is empty.
        startend_row_indices: int32 [B, Hm, Sk, n]. Hm divides Hq; query head h uses mask head h // (Hq / Hm).
        dropout: probability in [0, 1) of dropping an attention probability; kept ones are scaled by 1 / (1 - dropout).
        causal: hide later keys, and read startend_row_indices as above. None is False.
        window_size: see above. It applies in addition to startend_row_indices.
        return_softmax_lse: also return the natural log of the softmax denominator before dropout, float32 [B, Hq, Sq].
        return_seed_offset: also return the dropout stream, int64 [2] (seed, offset).
        fixed_seed_offset: int64 or int32 [2], the dropout stream to use. By default it is drawn from Paddle's
            generator: paddle.seed controls it and recompute repeats it.
        rng_name: state of fleet's RNG state tracker from which to draw it (dynamic mode only).
        training: False switches dropout off.
        name: ignored.
        softmax_scale: finite; 1 / sqrt(D) by default.
        block_mask: int32 [B, Hm, ceil(Sq / 128), ceil(Sk / 128)], Hm as in startend_row_indices if both are given.
        learnable_sink: [Hq], floating: exp(sink) of the head is added to the softmax denominator. Differentiable.
        deterministic: require bit-identical gradients in every run, as they always are on the CPU. The default is
            FLAGS_cudnn_deterministic.
        use_varlen: no effect. In FlashMask 4 it selects another kernel for document masks.
        group: None or a process group of one rank.

    Returns:
        out [B, Sq, Hq, Dv] in the dtype of query. With return_softmax_lse or return_seed_offset: a list of out, then
        lse and seed_offset as requested.

    Raises:
        TypeError: an argument that is not a tensor, or an unexpected dtype (mixed dtypes included).
        ValueError: an unexpected shape, value or combination (n with causal).
        NotImplementedError: a device without kernels in this build, a head dim that its kernels lack, or a group of
            several ranks.
    """
    del name
    causal = causal is not None and _arguments.flag("causal", causal)
    _arguments.flag("use_varlen", use_varlen)
    _arguments.check_group(group)
    _arguments.check_qkv(query, key, value)
    if startend_row_indices is not None:
        _arguments.check_startend_row_indices(startend_row_indices, query, key.shape[1], causal)
    if block_mask is not None:
        _arguments.check_block_mask(block_mask, query, key, startend_row_indices)
    if learnable_sink is not None:
        _arguments.check_learnable_sink(learnable_sink, query)
    if fixed_seed_offset is not None:
        _arguments.check_seed_offset(fixed_seed_offset)
    deterministic = (
        deterministic_default() if deterministic is None else _arguments.flag("deterministic", deterministic)
    )
    window_left, window_right = _arguments.window_sides(window_size, causal)
    probability = _arguments.dropout_probability(dropout) if training else 0.0
    scale = _arguments.scale_or_default(softmax_scale, query)
    seed_offset = _beside(dropout_stream(probability, fixed_seed_offset, rng_name), query)

    heads, head_dim_v = query.shape[2], value.shape[3]
    is_empty = _empty_axes.has_empty_axis(query, value)
    if is_empty:
        query, key, value = _empty_axes.fill(query, key, value)
    if heads == 0:  # these have no heads either
        startend_row_indices = block_mask = learnable_sink = None
    attributes = (scale, causal, window_left, window_right, probability, deterministic, 0, 0)
    masks = (startend_row_indices, block_mask, seed_offset)
    if learnable_sink is None:
        out, lse = _library.run(_library.OP_NAME, *_detached_under_no_grad(query, key, value), *masks, *attributes)
    else:
        inputs = _detached_under_no_grad(query, key, value, learnable_sink)
        out, lse = _library.run(_library.OP_NAME_SINK, *inputs, *masks, *attributes)
    if is_empty:
        out, lse = _empty_axes.cut(out, lse, heads, head_dim_v)

    if not return_softmax_lse and not return_seed_offset:
        return out
    results = [out]
    if return_softmax_lse:
        results.append(lse)
    if return_seed_offset:
        results.append(paddle.zeros([2], dtype="int64") if seed_offset is None else seed_offset)
    return results


def pad_lse(lse: Tensor) -> Tensor:
    """Return lse in the form of Paddle's own operator, for code that passes it on to Paddle's kernels.

    Paddle rounds the last axis up to a multiple of 128 (FlashAttnInferMeta), and its FlashAttention-2 kernels write
    +inf, not -inf, for a query that sees no key. The rows of the padding are +inf too: exp(score - inf) is 0.

    Args:
        lse: float32 [B, Hq, Sq], as flashmask_attention returns it.

    Returns:
        float32 [B, Hq, ceil(Sq / 128) * 128].
    """
    infinity = paddle.full([], math.inf, lse.dtype)
    lse = paddle.where(lse == -infinity, infinity, lse)
    return paddle.nn.functional.pad(lse, [0, -lse.shape[2] % _LSE_MULTIPLE], value=math.inf, data_format="NCL")


def _detached_under_no_grad(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Detach the tensors under no_grad, where Paddle would still record a custom operator and keep them alive."""
    if not paddle.in_dynamic_mode() or paddle.is_grad_enabled():
        return tensors
    return tuple(tensor.detach() for tensor in tensors)


def deterministic_default() -> bool:
    """Return Paddle's own switch for its GPU kernels. The CPU kernels are always deterministic."""
    flag = "FLAGS_cudnn_deterministic"
    return paddle.is_compiled_with_cuda() and bool(paddle.get_flags([flag])[flag])


def dropout_stream(probability: float, fixed: Tensor | None, rng_name: str) -> Tensor | None:
    """Return (seed, offset), int64 [2], or None if nothing is dropped and none was given.

    The stream is a tensor, not two attributes: a traced graph or a saved model would freeze attributes and repeat one
    pattern.
    """
    if fixed is not None:
        return fixed if fixed.dtype == paddle.int64 else fixed.astype("int64")
    if probability == 0.0:
        return None
    if not rng_name:
        return paddle.randint(0, _SEED_LIMIT, shape=[2], dtype="int64")
    if not paddle.in_dynamic_mode():
        raise NotImplementedError(f"rng_name is {rng_name!r}, but a named state can only be drawn from in dynamic mode")
    from paddle.distributed.fleet.meta_parallel import get_rng_state_tracker

    with get_rng_state_tracker().rng_state(rng_name):
        return paddle.randint(0, _SEED_LIMIT, shape=[2], dtype="int64")


def _beside(seed_offset: Tensor | None, query: Tensor) -> Tensor | None:
    """Copy the stream to the device of query, where the kernels read it. A static graph places it by itself."""
    if seed_offset is None or not paddle.in_dynamic_mode() or seed_offset.place == query.place:
        return seed_offset
    return seed_offset.to(query.place)
