"""The operator on one piece: the rows of this rank against keys of one rank, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import paddle
from paddle import Tensor

from paddle_flashmask import _library

from .merge import MergedResult, Rows
from .plan import Call, Piece

_library.load()


@dataclass(frozen=True)
class Options:
    """Arguments of the operator that all calls share. `seed_offset` is int64 [2] beside query, or None."""

    softmax_scale: float
    dropout: float
    deterministic: bool
    seed_offset: Tensor | None


def run_forward(query: Tensor, key: Tensor, value: Tensor, piece: Piece, options: Options, into: MergedResult) -> None:
    """Merge the attention of a piece; key and value [B, keys, Hkv, D] are the keys of the piece alone."""
    for call in piece.calls:
        inputs = (_cut(query, 1, call.rows), _cut(key, 1, call.keys), _cut(value, 1, call.keys))
        masks = (_columns(call, query), None, options.seed_offset)
        out, lse = _library.run(_library.OP_NAME, *inputs, *masks, *_attributes(call, options))
        into.add(call.rows, out, lse)


def run_backward(
    given: Rows, key: Tensor, value: Tensor, piece: Piece, options: Options, dquery: Tensor
) -> tuple[Tensor, Tensor]:
    """Add the share of a piece to dquery, float32 [B, S, Hq, D], and return its dkey and dvalue, float32.

    The probabilities of a pair follow from the merged lse, and so do the gradients: the shares of all pieces add up.
    """
    dkey, dvalue = (paddle.zeros(tensor.shape, "float32") for tensor in (key, value))
    for call in piece.calls:
        results = _library.run(
            _library.OP_NAME_BACKWARD,
            *(options.seed_offset, None, _columns(call, given.query)),
            *(_cut(tensor, 1, call.keys) for tensor in (value, key)),
            *(_cut(tensor, 1, call.rows) for tensor in (given.query, given.out)),
            *(_cut(given.lse, 2, call.rows), _cut(given.dout, 1, call.rows), _cut(given.dlse, 2, call.rows)),
            *_attributes(call, options),
        )
        places = ((dquery, call.rows), (dkey, call.keys), (dvalue, call.keys))
        for (total, (begin, end)), part in zip(places, results, strict=True):
            total[:, begin:end] = total[:, begin:end] + part.astype("float32")
    return dkey, dvalue


def _cut(tensor: Tensor, axis: int, place: tuple[int, int]) -> Tensor:
    """Return [begin, end) of an axis, without a copy where that is all of it."""
    begin, end = place
    if end - begin == tensor.shape[axis]:
        return tensor
    return tensor.slice([axis], [begin], [end])


def _columns(call: Call, query: Tensor) -> Tensor:
    columns = paddle.to_tensor(call.startend_row_indices, place=query.place)
    return columns.expand([query.shape[0], *columns.shape[1:]])


def _attributes(call: Call, options: Options) -> tuple:
    causal, unbounded = False, -1
    return (
        options.softmax_scale,
        causal,
        unbounded,
        unbounded,
        options.dropout,
        options.deterministic,
        call.dropout_row,
        call.dropout_key,
    )
