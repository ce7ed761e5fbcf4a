"""The specification of FlashMask attention: dense, slow, exact, and short enough to read.

Every kernel of this package is tested against it. `visible` and `dropout_keep` are plain NumPy;
`flashmask_attention` is plain Paddle and gets its gradients from Paddle's autograd. In float64 its result is the
definition of the operator.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import paddle

BLOCK_MASK_SIZE = 128


def visible(
    startend_row_indices: np.ndarray | None,
    causal: bool,
    window: tuple[int, int],
    block_mask: np.ndarray | None,
    seqlen_q: int,
    seqlen_k: int,
    causal_offset: int | None = None,
) -> np.ndarray:
    """Return the visible pairs, bool [B, Hm, Sq, Sk]. B and Hm are 1 if nothing depends on them.

    Args:
        startend_row_indices: int [B, Hm, Sk, n] or None. Half-open intervals of masked query rows per key, clipped to
            [0, Sq]: causal n=1 {LTS}, n=2 {LTS, LTE}; otherwise n=2 {LTS, UTE}, n=4 {LTS, LTE, UTS, UTE}.
        causal: key j is hidden from query i if j > i + causal_offset.
        window: (left, right): query i sees keys i + causal_offset - left ... i + causal_offset + right; -1 is
            unbounded.
        block_mask: int [B, Hm, ceil(Sq/128), ceil(Sk/128)] or None; a zero hides its 128 x 128 block.
        causal_offset: Sk - Sq by default (bottom-right alignment).

    Raises:
        ValueError: an n that does not go with `causal`.
    """
    offset = seqlen_k - seqlen_q if causal_offset is None else causal_offset
    row = np.arange(seqlen_q)[:, None]
    key = np.arange(seqlen_k)[None, :]
    left, right = window
    seen = np.ones((1, 1, seqlen_q, seqlen_k), dtype=bool)
    if causal:
        seen = seen & (key <= row + offset)
    if left >= 0:
        seen = seen & (key >= row + offset - left)
    if right >= 0:
        seen = seen & (key <= row + offset + right)
    if startend_row_indices is not None:
        bounds = np.clip(np.asarray(startend_row_indices, dtype=np.int64), 0, seqlen_q)
        for start, end in _masked_intervals(bounds, causal, seqlen_q):
            seen = seen & ~((start[:, :, None, :] <= row) & (row < end[:, :, None, :]))
    if block_mask is not None:
        kept = np.asarray(block_mask) != 0
        seen = seen & kept[:, :, row // BLOCK_MASK_SIZE, key // BLOCK_MASK_SIZE]
    return seen


def _masked_intervals(bounds: np.ndarray, causal: bool, seqlen_q: int) -> list[tuple[np.ndarray, np.ndarray]]:
    n = bounds.shape[-1]
    channel = [bounds[..., c] for c in range(n)]
    top = np.zeros_like(channel[0])
    bottom = np.full_like(channel[0], seqlen_q)
    if causal and n == 1:
        return [(channel[0], bottom)]
    if causal and n == 2:
        return [(channel[0], channel[1])]
    if not causal and n == 2:
        return [(channel[0], bottom), (top, channel[1])]
    if not causal and n == 4:
        return [(channel[0], channel[1]), (channel[2], channel[3])]
    raise ValueError(
        f"startend_row_indices with {n} bounds per key and causal={causal}: expected 1 or 2 with causal, 2 or 4 without"
    )


def philox4x32(counter: tuple[np.ndarray, ...], key: tuple[int, int], rounds: int = 10) -> tuple[np.ndarray, ...]:
    """Philox4x32 of uint32 arrays, elementwise (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)."""
    low32 = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = (np.asarray(c).astype(np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(rounds):
        product0 = c0 * np.uint64(0xD2511F53)
        product1 = c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & low32,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & low32,
        )
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def dropout_keep(
    dropout: float, seed: int, offset: int, batch: int, heads_q: int, seqlen_q: int, seqlen_k: int
) -> np.ndarray:
    """Return the probabilities that dropout keeps, bool [B, Hq, Sq, Sk].

    One Philox4x32-10 call gives eight 16-bit words, for the probabilities of one of the 32 lanes of a 16 x 16 block:
    counter = (low half of offset, b*Hq + h, row // 16, col // 16 | lane << 27), key = (low half of seed,
    high half of seed ^ high half of offset). A probability is kept iff its word < round((1 - dropout) * 65536).
    """
    seed, offset = seed & (2**64 - 1), offset & (2**64 - 1)
    keep_below = math.floor((1.0 - float(np.float32(dropout))) * 65536.0 + 0.5)
    head = np.arange(batch * heads_q)[:, None, None]
    row = np.arange(seqlen_q)[None, :, None]
    col = np.arange(seqlen_k)[None, None, :]
    lane = (row % 8) * 4 + (col % 8) // 2
    word = (col % 16) // 8 * 4 + (row % 16) // 8 * 2 + col % 2
    counter = np.broadcast_arrays(offset & 0xFFFFFFFF, head, row // 16, col // 16 | lane << 27)
    random = np.stack(philox4x32(tuple(counter), (seed & 0xFFFFFFFF, (seed >> 32) ^ (offset >> 32))))
    word = np.broadcast_to(word, counter[0].shape)
    chosen = np.take_along_axis(random, (word // 2)[None], axis=0)[0]
    bits = chosen >> (word % 2 * 16).astype(np.uint32) & np.uint32(0xFFFF)
    return (bits < keep_below).reshape(batch, heads_q, seqlen_q, seqlen_k)


def flashmask_attention(
    query: paddle.Tensor,
    key: paddle.Tensor,
    value: paddle.Tensor,
    startend_row_indices: paddle.Tensor | None = None,
    *,
    dropout: float = 0.0,
    causal: bool = False,
    window_size: int | tuple[int, int] | None = None,
    return_softmax_lse: bool = False,
    return_seed_offset: bool = False,
    fixed_seed_offset: paddle.Tensor | None = None,
    rng_name: str = "",
    training: bool = True,
    name: str | None = None,
    softmax_scale: float | None = None,
    block_mask: paddle.Tensor | None = None,
    learnable_sink: paddle.Tensor | None = None,
    deterministic: bool | None = None,
) -> paddle.Tensor | list[paddle.Tensor]:
    """Compute dense attention with a column-sparse mask. Arguments are those of `paddle_flashmask.flashmask_attention`.

    The computation has the dtype of `query`; float64 is the specification. 16-bit inputs are computed in float32, and
    `out` is rounded to their dtype. lse has the dtype of the computation. A row that sees no key has out = 0 and lse =
    -inf (with a sink: lse = sink of the head). The memory is O(B * Hq * Sq * Sk). `name` and `deterministic` have no
    effect.

    Raises:
        ValueError: no batch row, query, key or head, or an n that does not go with `causal`.
    """
    import paddle

    batch, seqlen_q, heads_q, head_dim = query.shape
    seqlen_k, heads_kv, head_dim_v = key.shape[1], key.shape[2], value.shape[3]
    if batch * seqlen_q * seqlen_k * heads_q == 0:
        raise ValueError("the dense reference needs at least one batch, query, key and head")
    dtype = query.dtype if query.dtype in (paddle.float32, paddle.float64) else paddle.float32
    scale = 1.0 / math.sqrt(head_dim) if softmax_scale is None else softmax_scale

    q = query.astype(dtype).transpose([0, 2, 1, 3])
    k = _repeat_heads(key.astype(dtype).transpose([0, 2, 1, 3]), heads_q)
    v = _repeat_heads(value.astype(dtype).transpose([0, 2, 1, 3]), heads_q)
    seen = paddle.to_tensor(
        _visible_per_query_head(startend_row_indices, causal, window_size, block_mask, heads_q, seqlen_q, seqlen_k)
    ).expand([batch, heads_q, seqlen_q, seqlen_k])

    # Hidden scores are replaced before the exponential, so that neither they nor their gradients become NaN.
    scores = paddle.matmul(q, k, transpose_y=True) * scale
    zero = paddle.zeros([], dtype)
    minus_infinity = paddle.full([], -math.inf, dtype)
    row_max = paddle.where(seen, scores.detach(), minus_infinity).max(axis=-1, keepdim=True)
    row_sees = seen.any(axis=-1, keepdim=True)
    sink = None
    if learnable_sink is not None:
        sink = learnable_sink.astype(dtype).reshape([1, heads_q, 1, 1])
        row_max = paddle.maximum(row_max, sink.detach().expand(row_max.shape))
        row_sees = paddle.ones_like(row_sees)
    row_max = paddle.where(row_sees, row_max, zero)
    weights = paddle.where(seen, paddle.exp(paddle.where(seen, scores - row_max, zero)), zero)
    denominator = weights.sum(axis=-1, keepdim=True)
    if sink is not None:
        denominator = denominator + paddle.exp(sink - row_max)
    denominator = paddle.where(row_sees, denominator, paddle.ones([], dtype))
    probabilities = weights / denominator
    lse = paddle.where(row_sees, row_max + paddle.log(denominator), minus_infinity).squeeze(-1)

    seed_offset = None
    if dropout > 0.0 and training:
        seed_offset = _seed_offset(fixed_seed_offset, rng_name)
        seed, offset = (int(word) for word in seed_offset.numpy())
        keep = dropout_keep(dropout, seed, offset, batch, heads_q, seqlen_q, seqlen_k)
        probabilities = probabilities * paddle.to_tensor(keep / (1.0 - float(np.float32(dropout)))).astype(dtype)

    out = paddle.matmul(probabilities, v).transpose([0, 2, 1, 3]).astype(query.dtype)
    assert out.shape == [batch, seqlen_q, heads_q, head_dim_v] and heads_q % heads_kv == 0
    if not return_softmax_lse and not return_seed_offset:
        return out
    result = [out]
    if return_softmax_lse:
        result.append(lse)
    if return_seed_offset:
        result.append(paddle.zeros([2], "int64") if seed_offset is None else seed_offset)
    return result


def _repeat_heads(x: paddle.Tensor, heads: int) -> paddle.Tensor:
    """Expand [B, H, S, D] to [B, heads, S, D]: query head h reads head h // (heads / H)."""
    batch, have, length, dim = x.shape
    return x.unsqueeze(2).expand([batch, have, heads // have, length, dim]).reshape([batch, heads, length, dim])


def _visible_per_query_head(
    startend_row_indices: paddle.Tensor | None,
    causal: bool,
    window_size: int | tuple[int, int] | None,
    block_mask: paddle.Tensor | None,
    heads_q: int,
    seqlen_q: int,
    seqlen_k: int,
) -> np.ndarray:
    if window_size is None:
        window = (-1, -1)
    else:
        window = (window_size, window_size) if isinstance(window_size, int) else tuple(window_size)
    columns = None if startend_row_indices is None else startend_row_indices.numpy()
    blocks = None if block_mask is None else block_mask.numpy()
    by_columns = visible(columns, causal, window, None, seqlen_q, seqlen_k)
    by_blocks = visible(None, False, (-1, -1), blocks, seqlen_q, seqlen_k)
    by_columns, by_blocks = (np.repeat(seen, heads_q // seen.shape[1], axis=1) for seen in (by_columns, by_blocks))
    return by_columns & by_blocks


def _seed_offset(fixed_seed_offset: paddle.Tensor | None, rng_name: str) -> paddle.Tensor:
    """Return the given seed and offset, or new ones from Paddle's generator (or from the state `rng_name`)."""
    import paddle

    if fixed_seed_offset is not None:
        return fixed_seed_offset
    generator = contextlib.nullcontext()
    if rng_name:
        from paddle.distributed.fleet.meta_parallel import get_rng_state_tracker

        generator = get_rng_state_tracker().rng_state(rng_name)
    with generator:
        return paddle.randint(0, 2**31 - 1, [2], dtype="int64")
