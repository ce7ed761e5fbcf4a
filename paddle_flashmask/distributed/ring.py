"""The steps of context parallel attention: pieces of keys come by, one at a time, and their gradients go back.

In step s a rank sends the keys that rank + s sees and works on those of rank - s; step 0 is its own keys. The next
piece is under way while the rank works on this one, so that a rank holds its share and two pieces (in the backward pass
also their gradients).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import paddle
from paddle import Tensor

from .exchange import Exchange, Message
from .merge import MergedResult, Rows
from .pieces import Options, run_backward, run_forward
from .plan import Piece, Plan
from .rows import Ranges


@dataclass(frozen=True, eq=False)
class Context:
    """What all steps share."""

    plan: Plan
    exchange: Exchange
    options: Options


def attend(query: Tensor, key: Tensor, value: Tensor, sink: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
    """Return out [B, S, Hq, Dv] in the dtype of query and lse float32 [B, Hq, S] of this rank's rows."""
    batch, rows, heads, _ = query.shape
    merged = MergedResult(batch, rows, heads, value.shape[3])
    for _, piece, keys, values in _pieces(key, value, context):
        run_forward(query, keys, values, piece, context.options, merged)
    if sink is not None:
        merged.add_sink(sink)
    return merged.out.astype(query.dtype), merged.lse


def gradients(given: Rows, key: Tensor, value: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
    """Return dquery of this rank's rows, and dkey and dvalue of its keys, to which every rank that sees them adds."""
    dquery, dkey, dvalue = (paddle.zeros(tensor.shape, "float32") for tensor in (given.query, key, value))
    plan, returning = context.plan, None
    for step, piece, keys, values in _pieces(key, value, context):
        dkeys, dvalues = run_backward(given, keys, values, piece, context.options, dquery)
        if step == 0:
            _add(dkey, dvalue, plan.received[plan.rank].ranges, dkeys, dvalues)
            continue
        if returning is not None:
            _add_message(dkey, dvalue, *returning)
        owner, reader = _neighbours(step, context)
        own = plan.sent[reader]
        message = _joined(dkeys.astype(key.dtype), dvalues.astype(key.dtype))
        returning = own, context.exchange.start(message, owner, _room(key, value, own), reader)
    if returning is not None:
        _add_message(dkey, dvalue, *returning)
    return dquery.astype(given.query.dtype), dkey.astype(key.dtype), dvalue.astype(value.dtype)


def _pieces(key: Tensor, value: Tensor, context: Context) -> Iterator[tuple[int, Piece, Tensor, Tensor]]:
    """Yield (step, piece, keys, values) while the next piece is under way."""
    plan, ranks = context.plan, context.exchange.ranks
    coming = _send_keys(1, key, value, context) if ranks > 1 else None
    own = plan.received[plan.rank]
    yield 0, own, _taken(key, own.ranges), _taken(value, own.ranges)
    for step in range(1, ranks):
        piece = plan.received[_neighbours(step, context)[0]]
        received = coming.wait()
        coming = _send_keys(step + 1, key, value, context) if step + 1 < ranks else None
        keys, values = _parted(received, piece, key, value)
        del received
        yield step, piece, keys, values


def _neighbours(step: int, context: Context) -> tuple[int, int]:
    """Return the owner of the keys that this rank reads in a step, and the reader of its own keys."""
    rank, ranks = context.plan.rank, context.exchange.ranks
    return (rank - step) % ranks, (rank + step) % ranks


def _send_keys(step: int, key: Tensor, value: Tensor, context: Context) -> Message:
    owner, reader = _neighbours(step, context)
    sent = context.plan.sent[reader]
    message = _joined(_taken(key, sent.ranges), _taken(value, sent.ranges))
    return context.exchange.start(message, reader, _room(key, value, context.plan.received[owner]), owner)


def _taken(tensor: Tensor, ranges: Ranges) -> Tensor:
    """Return the ranges of axis 1 side by side."""
    if ranges == ((0, tensor.shape[1]),):
        return tensor
    parts = [tensor[:, begin:end] for begin, end in ranges]
    return paddle.concat(parts, axis=1) if parts else tensor[:, :0]


def _joined(key: Tensor, value: Tensor) -> Tensor:
    """Return key and value, or their gradients, as one message."""
    return paddle.concat([key.flatten(), value.flatten()])


def _room(key: Tensor, value: Tensor, piece: Piece) -> Tensor:
    """Return memory for the message of a piece."""
    batch, _, heads, head_dim = key.shape
    size = batch * piece.keys * heads * (head_dim + value.shape[3])
    return paddle.empty([size], key.dtype)


def _parted(message: Tensor, piece: Piece, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return key and value of a message."""
    shapes = [[tensor.shape[0], piece.keys, *tensor.shape[2:]] for tensor in (key, value)]
    middle = message.shape[0] * key.shape[3] // (key.shape[3] + value.shape[3])
    return message[:middle].reshape(shapes[0]), message[middle:].reshape(shapes[1])


def _add_message(dkey: Tensor, dvalue: Tensor, piece: Piece, message: Message) -> None:
    _add(dkey, dvalue, piece.ranges, *_parted(message.wait(), piece, dkey, dvalue))


def _add(dkey: Tensor, dvalue: Tensor, ranges: Ranges, dkeys: Tensor, dvalues: Tensor) -> None:
    """Add gradients of the keys in `ranges` to those of all keys of this rank."""
    first = 0
    for begin, end in ranges:
        last = first + end - begin
        for total, part in ((dkey, dkeys), (dvalue, dvalues)):
            total[:, begin:end] = total[:, begin:end] + part[:, first:last].astype("float32")
        first = last
