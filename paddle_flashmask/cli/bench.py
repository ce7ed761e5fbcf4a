"""`paddle-flashmask bench`: speed of the operator and of Paddle's dense attention on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click

FLOPS = {"forward": 4, "backward": 10}
"""Per visible pair and head_dim element: two matrix products forward, five backward."""


@click.command()
@click.option("--seqlen", default=2048, show_default=True, type=click.IntRange(min=128))
@click.option("--heads", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--head-dim", default=128, show_default=True, type=click.IntRange(1, 256))
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Paddle's dense attention is timed in float32 only: it has no 16-bit CPU kernels.",
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1))
def bench(seqlen: int, heads: int, head_dim: int, dtype: str, rounds: int) -> None:
    """Print forward and backward time and GFLOP/s on visible pairs for five masks, the median of the rounds.

    The last column is the time of Paddle's scaled_dot_product_attention relative to ours. It gets the same mask as a
    dense tensor, which is built outside the timed region.
    """
    from paddle_flashmask import masks

    documents = [seqlen // 8] * 7
    window = seqlen // 16
    chosen = {
        "full": masks.full(seqlen),
        "causal": masks.causal(seqlen),
        "causal_document": masks.causal_document([*documents, seqlen - sum(documents)]),
        "document": masks.document([*documents, seqlen - sum(documents)]),
        "sliding_window": masks.sliding_window(seqlen, window),
    }
    click.echo(f"1 x {seqlen} x {heads} heads x {head_dim}, {dtype}")
    click.echo(f"{'mask':16} {'density':>8} {'direction':>10} {'ms':>9} {'GFLOP/s':>9} {'dense ms':>9} {'ratio':>7}")
    for name, mask in chosen.items():
        ours = _operator(mask, heads, head_dim, dtype)
        dense = _dense(mask, heads, head_dim) if dtype == "float32" else {}
        for direction, call in ours.items():
            taken, dense_taken = _medians([call, *([dense[direction]] if dense else [])], rounds)
            gflops = FLOPS[direction] * head_dim * heads * mask.statistics().visible_pairs / taken / 1e9
            row = f"{name:16} {mask.statistics().density:8.3f} {direction:>10} {taken * 1e3:9.2f} {gflops:9.1f}"
            click.echo(row + (f" {dense_taken * 1e3:9.2f} {dense_taken / taken:6.1f}x" if dense else ""))


def _medians(calls: list[Callable[[], object]], rounds: int) -> tuple[float, float]:
    """Return the median seconds of one or two interleaved calls; the second is NaN if there is only one."""
    times: list[list[float]] = [[], []]
    for call in calls:
        call()
    for _ in range(rounds):
        for taken, call in zip(times, calls, strict=False):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1]) if times[1] else float("nan")


def _operator(mask, heads: int, head_dim: int, dtype: str) -> dict[str, Callable[[], object]]:
    import paddle_flashmask

    columns = mask.to_paddle()
    return _directions(
        lambda q, k, v: paddle_flashmask.flashmask_attention(q, k, v, columns, causal=mask.causal),
        mask.seqlen_q,
        heads,
        head_dim,
        dtype,
    )


def _dense(mask, heads: int, head_dim: int) -> dict[str, Callable[[], object]]:
    import paddle

    visible = paddle.to_tensor(mask.to_dense())
    bias = paddle.where(visible, paddle.zeros([]), paddle.full([], float("-inf")))
    attention = paddle.nn.functional.scaled_dot_product_attention
    return _directions(lambda q, k, v: attention(q, k, v, attn_mask=bias), mask.seqlen_q, heads, head_dim, "float32")


def _directions(attend: Callable, seqlen: int, heads: int, head_dim: int, dtype: str) -> dict[str, Callable]:
    import paddle

    query, key, value, dout = (paddle.randn([1, seqlen, heads, head_dim]).astype(dtype) for _ in range(4))

    @paddle.no_grad()
    def forward():
        return attend(query, key, value)

    for tensor in (query, key, value):
        tensor.stop_gradient = False
    out = attend(query, key, value)

    def backward():
        return paddle.grad([out], [query, key, value], grad_outputs=[dout], retain_graph=True)

    return {"forward": forward, "backward": backward}
