"""The operator, as Paddle users call it."""

from __future__ import annotations

import paddle

import paddle_flashmask

from .problem import Directions, Problem


def flashmask(problem: Problem) -> Directions:
    query, key, value, dout = (paddle.to_tensor(t).astype(problem.dtype) for t in problem.tensors())
    columns = None if problem.name in ("full", "causal") else problem.mask.to_paddle()
    causal = problem.mask.causal if columns is not None else problem.name == "causal"

    def attend() -> paddle.Tensor:
        return paddle_flashmask.flashmask_attention(query, key, value, columns, causal=causal)

    @paddle.no_grad()
    def forward() -> paddle.Tensor:
        return attend()

    for tensor in (query, key, value):
        tensor.stop_gradient = False
    out = attend()

    def backward() -> list[paddle.Tensor]:
        return paddle.grad([out], [query, key, value], grad_outputs=[dout], retain_graph=True)

    return {"forward": forward, "backward": backward}
