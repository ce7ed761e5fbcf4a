"""Checks of the arguments of one rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paddle

from paddle_flashmask import _arguments
from paddle_flashmask.functional import deterministic_default, dropout_stream

from .agreement import Shared
from .exchange import Exchange
from .pieces import Options
from .plan import ALIGNMENT
from .rows import Ranges, check_rows, count

if TYPE_CHECKING:
    from paddle import Tensor


def checked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    startend_row_indices: Tensor | None,
    exchange: Exchange,
    rows: Any,
    dropout: float,
    causal: bool | None,
    window_size: Any,
    fixed_seed_offset: Tensor | None,
    rng_name: str,
    softmax_scale: float | None,
    learnable_sink: Tensor | None,
    deterministic: bool | None,
) -> tuple[Shared, tuple[int, int], Options]:
    """Return what all ranks share, the dropout stream of this rank ((0, 0): none) and the options of its calls.

    Raises TypeError, ValueError or NotImplementedError as `functional.flashmask_attention` of this package describes.
    """
    causal = causal is not None and _arguments.flag("causal", causal)
    ranges = check_rows(rows, exchange.ranks)
    _arguments.check_qkv(query, key, value)
    if query.shape[2] == 0 or value.shape[3] == 0:
        raise NotImplementedError(f"query has {query.shape[2]} heads and value {value.shape[3]} columns, expected some")
    held = count(ranges[exchange.rank])
    for name, tensor in (("query", query), ("key", key)):
        if tensor.shape[1] != held:
            raise ValueError(f"{name} has {tensor.shape[1]} rows, expected {held}, those of rows[{exchange.rank}]")
    if startend_row_indices is not None:
        seqlen = sum(map(count, ranges))
        _arguments.check_startend_row_indices(startend_row_indices, query, seqlen, causal)
    if learnable_sink is not None:
        _arguments.check_learnable_sink(learnable_sink, query)
    if fixed_seed_offset is not None:
        _arguments.check_seed_offset(fixed_seed_offset)
    if deterministic is None:
        deterministic = deterministic_default()
    window = _arguments.window_sides(window_size, causal)
    probability = _arguments.dropout_probability(dropout)
    if probability > 0.0:
        _check_alignment(ranges)
    scale = _arguments.scale_or_default(softmax_scale, query)
    seed_offset = dropout_stream(probability, fixed_seed_offset, rng_name)
    stream = (0, 0) if seed_offset is None else tuple(seed_offset.tolist())
    inputs = [tensor for tensor in (query, key, value, learnable_sink) if tensor is not None]
    shared = Shared(
        rows=ranges,
        startend_row_indices=None if startend_row_indices is None else startend_row_indices.numpy(),
        causal=causal,
        window_size=window,
        batch_and_heads=(query.shape[0], *query.shape[2:], *key.shape[2:], value.shape[3]),
        dtype=str(query.dtype),
        dropout=probability,
        softmax_scale=scale,
        learnable_sink=learnable_sink is not None,
        fixed_seed_offset=None if fixed_seed_offset is None else stream,
        needs_gradients=paddle.is_grad_enabled() and not all(tensor.stop_gradient for tensor in inputs),
    )
    deterministic = _arguments.flag("deterministic", deterministic)
    return shared, stream, Options(scale, probability, deterministic, seed_offset)


def _check_alignment(rows: tuple[Ranges, ...]) -> None:
    for rank, ranges in enumerate(rows):
        for begin, end in ranges:
            if begin % ALIGNMENT != 0:
                raise ValueError(
                    f"rows[{rank}] has the range {(begin, end)}, expected a multiple of {ALIGNMENT} as its begin: with "
                    "dropout, the pattern of one device is drawn in blocks of that size"
                )
