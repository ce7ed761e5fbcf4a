"""Context parallel attention: the operator over rows and keys that are spread over the ranks of a group."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from .agreement import Shared, agree, refuse
from .arguments import checked
from .columns import sequence_columns
from .exchange import Exchange
from .merge import Rows, sink_gradient
from .plan import Plan, make_plan
from .ring import Context, attend, gradients
from .rows import Ranges, count

if TYPE_CHECKING:
    from paddle import Tensor
    from paddle.distributed.communication.group import Group

_KEPT_PLANS = 8  # masks of the layers and micro-batches of a step


def flashmask_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    startend_row_indices: Tensor | None = None,
    *,
    rows: Sequence[Sequence[tuple[int, int]]],
    group: Group | None = None,
    dropout: float = 0.0,
    causal: bool | None = False,
    window_size: int | tuple[int, ...] | None = None,
    return_softmax_lse: bool = False,
    return_seed_offset: bool = False,
    fixed_seed_offset: Tensor | None = None,
    rng_name: str = "",
    training: bool = True,
    softmax_scale: float | None = None,
    learnable_sink: Tensor | None = None,
    deterministic: bool | None = None,
) -> Tensor | list[Tensor]:
    """Compute the rows of `paddle_flashmask.flashmask_attention` that this rank holds; other ranks hold the others.

    The sequence has N rows and N keys. Every rank holds the queries, keys and values of its rows, side by side in
    ascending order. Every rank of the group calls this function at the same place of its program, in dynamic mode. The
    result and the gradients of query, key and value are those of the operator on one device, cut to the rank's rows.
    Arguments that are not named here mean the same as there.

    Keys travel between ranks in pieces, and only those that some row of the other rank sees. Partial results are merged
    by lse, in float32; with 16-bit inputs each partial result is rounded once.

    Args:
        query: [B, S, Hq, D], where S is the number of rows that this rank holds.
        key: [B, S, Hkv, D].
        value: [B, S, Hkv, Dv].
        startend_row_indices: int32 [B, Hm, N, n] of the whole sequence, the same on every rank. It is read on the host.
        rows: the rows of every rank of the group, in the order of its ranks: half-open ranges (begin, end) that ascend
            within a rank. Together they cover [0, N) exactly once. A rank may hold none.
        group: a process group that contains this process; the default group if None. Gloo and NCCL.
        dropout: the pattern is that of one device, which draws it in blocks of 16: with dropout, every range begins at
            a multiple of 16.
        learnable_sink: [Hq], the same on every rank. Its gradient is the share of this rank's rows: like those of other
            parameters, the gradients of all ranks add up to that of one device.
        fixed_seed_offset: int64 or int32 [2], the same on every rank. By default every rank draws from its generator,
            and all use what rank 0 drew.

    Returns:
        out [B, S, Hq, Dv] in the dtype of query. With return_softmax_lse or return_seed_offset: a list of out, then lse
        float32 [B, Hq, S] and seed_offset int64 [2] as requested.

    Raises:
        TypeError, ValueError, NotImplementedError: as on one device, or for `rows`. The other ranks raise
            `agreement.PeerError` in the same call, and none of them waits.
        ValueError: an argument differs between ranks; every rank raises it.
        RuntimeError: another process has ended or does not answer; Paddle's process group raises it, as OSError in the
            backward pass.
    """
    if not paddle.in_dynamic_mode():
        raise NotImplementedError("context parallel attention runs in dynamic mode only")
    exchange = Exchange(group)
    try:
        shared, stream, options = checked(
            *(query, key, value, startend_row_indices, exchange, rows, dropout if training else 0.0, causal),
            *(window_size, fixed_seed_offset, rng_name, softmax_scale, learnable_sink, deterministic),
        )
    except Exception:
        refuse(exchange)
        raise
    seed_offset = agree(exchange, shared, stream)
    if options.seed_offset is not None:
        options = replace(options, seed_offset=paddle.to_tensor(seed_offset, "int64", place=query.place))
    context = Context(_plan_of(shared, exchange.rank), exchange, options)
    out, lse = ContextParallelAttention.apply(query, key, value, learnable_sink, context)
    if not return_softmax_lse and not return_seed_offset:
        return out
    results = [out]
    if return_softmax_lse:
        results.append(lse)
    if return_seed_offset:
        results.append(paddle.to_tensor(seed_offset, "int64"))
    return results


class ContextParallelAttention(PyLayer):
    """The steps of `ring` with their gradients."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sink: Tensor | None, context: Context
    ) -> tuple[Tensor, Tensor]:
        out, lse = attend(query, key, value, sink, context)
        ctx.save_for_backward(query, key, value, sink, out, lse)
        ctx.context = context
        inputs = [tensor for tensor in (query, key, value, sink) if tensor is not None]
        ctx.frozen = [tensor.stop_gradient for tensor in inputs]  # recompute saves copies without gradients
        return out, lse

    @staticmethod
    def backward(ctx: Any, dout: Tensor, dlse: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, sink, out, lse = ctx.saved_tensor()
        given = Rows(query, out, lse, dout, dlse)
        results = [*gradients(given, key, value, ctx.context)]
        if sink is not None:
            results.append(sink_gradient(sink, given))
        return tuple(None if frozen else gradient for frozen, gradient in zip(ctx.frozen, results, strict=True))


def _plan_of(shared: Shared, rank: int) -> Plan:
    """Return the plan of `rank` for arguments that all ranks share. The plans of the latest masks are kept."""
    mask = shared.startend_row_indices
    content = None if mask is None else (mask.shape, mask.tobytes())
    return _cached_plan(content, shared.causal, shared.window_size, shared.rows, rank, shared.dropout > 0.0)


@functools.lru_cache(maxsize=_KEPT_PLANS)
def _cached_plan(
    content: tuple[tuple[int, ...], bytes] | None,
    causal: bool,
    window: tuple[int, int],
    rows: tuple[Ranges, ...],
    rank: int,
    in_blocks: bool,
) -> Plan:
    mask = None if content is None else np.frombuffer(content[1], np.int32).reshape(content[0])
    seqlen = sum(map(count, rows))
    return make_plan(sequence_columns(mask, causal, window, seqlen), rows, rank, in_blocks)
