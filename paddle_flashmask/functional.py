"""The public operator: checks, defaults and the dropout stream around the kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import paddle

from paddle_flashmask import _arguments, _library

try:  # Paddle 3.3 and later; tells both graph tracers
    from paddle.jit.marker import unified as _unified
except ImportError:  # tells the one that rewrites source code
    from paddle.jit import not_to_static as _unified

if TYPE_CHECKING:
    from paddle import Tensor

_library.load()

__all__ = ["flashmask_attention"]

# Paddle draws integers below 2^31 on the CPU; two of them make a stream of 62 random bits.
_SEED_LIMIT = 2**31 - 1


# It means the same in dynamic and static graphs as it stands, so tracers must not take it apart.
@_unified
def flashmask_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    startend_row_indices: Tensor | None = None,
    *,
    dropout: float = 0.0,
    causal: bool = False,
    window_size: int | tuple[int, int] | None = None,
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
) -> Tensor | list[Tensor]:
    """softmax(query key^T * softmax_scale, over the keys a query sees) value.

    The mask is the column-wise form of FlashMask (arXiv:2410.01359, section 4.1): key j is hidden from the query rows
    of at most two half-open intervals. The first 15 parameters are those of paddle.nn.functional.flashmask_attention
    and mean the same. Query i sees key j only if all of these let it:

    * startend_row_indices: i lies in no masked interval of key j. causal: n = 1 {LTS} masks [LTS, Sq), n = 2
      {LTS, LTE} masks [LTS, LTE). Not causal: n = 2 {LTS, UTE} masks [LTS, Sq) and [0, UTE), n = 4
      {LTS, LTE, UTS, UTE} masks [LTS, LTE) and [UTS, UTE). Values are absolute query rows and are clipped to [0, Sq],
      so a negative value means 0 and one above Sq means Sq; an interval that ends where it starts or before is empty.
    * causal: j <= i + Sk - Sq (bottom-right aligned).
    * window_size (left, right): i + Sk - Sq - left <= j <= i + Sk - Sq + right; -1 is unbounded, an int is both sides.
    * block_mask: the 128 x 128 block of (i, j) holds a non-zero value.

    A query that sees no key gives out = 0 and lse = -inf (with a sink lse = sink of its head) and no gradient to
    query, key and value. Gradients flow through out and through lse.

    Args:
        query: [B, Sq, Hq, D], float32 (CPU only), bfloat16 or float16. D and Dv are 1 to 256, on a GPU
            multiples of 8.
        key: [B, Sk, Hkv, D], the dtype of query. Hkv divides Hq; query head h uses key head h // (Hq / Hkv).
        value: [B, Sk, Hkv, Dv], the dtype of query.
        startend_row_indices: int32 [B, Hm, Sk, n]. Hm divides Hq; query head h uses mask head h // (Hq / Hm).
        dropout: probability in [0, 1) with which an attention probability is dropped; the rest is scaled up.
        causal: hide the future, and read startend_row_indices as above.
        window_size: see above. Together with startend_row_indices both apply.
        return_softmax_lse: also return the log of the softmax denominator, float32 [B, Hq, Sq] (before dropout).
        return_seed_offset: also return the dropout stream, int64 [2] (seed, offset).
        fixed_seed_offset: int64 [2], the dropout stream to use. By default it is drawn from Paddle's generator, so
            paddle.seed governs it and recompute repeats it.
        rng_name: the state of fleet's RNG state tracker to draw it from (dynamic mode only).
        training: False switches dropout off.
        name: ignored.
        softmax_scale: finite; 1 / sqrt(D) by default.
        block_mask: int32 [B, Hm, ceil(Sq / 128), ceil(Sk / 128)], Hm as in startend_row_indices if both are given.
        learnable_sink: [Hq], floating: exp(sink) of the head joins the softmax denominator. Differentiable.
        deterministic: ask for gradients that are the same bits in every run; on the CPU they always are. By default
            as FLAGS_cudnn_deterministic says.

    Returns:
        out [B, Sq, Hq, Dv] in the dtype of query; with return_softmax_lse or return_seed_offset the list [out],
        then [lse], then [seed_offset] as asked.

    Raises:
        TypeError: an argument that is no tensor, or of another dtype than expected (mixed dtypes included).
        ValueError: a shape, a value or a combination (n with causal) that is not allowed.
        NotImplementedError: tensors on a device for which this build has no kernels.
    """
    del name
    causal = _arguments.flag("causal", causal)
    _arguments.check_qkv(query, key, value)
    if startend_row_indices is not None:
        _arguments.check_startend_row_indices(startend_row_indices, query, key, causal)
    if block_mask is not None:
        _arguments.check_block_mask(block_mask, query, key, startend_row_indices)
    if learnable_sink is not None:
        _arguments.check_learnable_sink(learnable_sink, query)
        learnable_sink = learnable_sink.astype("float32")
    if fixed_seed_offset is not None:
        _arguments.check_seed_offset(fixed_seed_offset)
    deterministic = (
        _deterministic_default() if deterministic is None else _arguments.flag("deterministic", deterministic)
    )
    window_left, window_right = _arguments.window_sides(window_size)
    probability = _arguments.dropout_probability(dropout) if training else 0.0
    scale = _arguments.scale_or_default(softmax_scale, query)
    seed_offset = _beside(_dropout_stream(probability, fixed_seed_offset, rng_name), query)

    attributes = (scale, causal, window_left, window_right, probability, deterministic)
    masks = (startend_row_indices, block_mask, seed_offset)
    if learnable_sink is None:
        out, lse = _library.run(_library.OP_NAME, *_detached_under_no_grad(query, key, value), *masks, *attributes)
    else:
        inputs = _detached_under_no_grad(query, key, value, learnable_sink)
        out, lse = _library.run(_library.OP_NAME_SINK, *inputs, *masks, *attributes)

    if not return_softmax_lse and not return_seed_offset:
        return out
    results = [out]
    if return_softmax_lse:
        results.append(lse)
    if return_seed_offset:
        results.append(paddle.zeros([2], dtype="int64") if seed_offset is None else seed_offset)
    return results


def _detached_under_no_grad(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Paddle records a custom operator for backward even under no_grad, and would keep these tensors alive."""
    if not paddle.in_dynamic_mode() or paddle.is_grad_enabled():
        return tensors
    return tuple(tensor.detach() for tensor in tensors)


def _deterministic_default() -> bool:
    """Paddle's own switch for its GPU kernels; the CPU kernels are always deterministic."""
    flag = "FLAGS_cudnn_deterministic"
    return paddle.is_compiled_with_cuda() and bool(paddle.get_flags([flag])[flag])


def _dropout_stream(probability: float, fixed: Tensor | None, rng_name: str) -> Tensor | None:
    """int64 [2] (seed, offset); None where nothing is dropped and none was given.

    A tensor and not two attributes: a traced graph or a saved model would freeze an attribute, and repeat one pattern.
    """
    if fixed is not None:
        return fixed
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
    """On the device of query, where the kernels read it: it may come from the CPU. A graph places it by itself."""
    if seed_offset is None or not paddle.in_dynamic_mode() or seed_offset.place == query.place:
        return seed_offset
    return seed_offset.to(query.place)
