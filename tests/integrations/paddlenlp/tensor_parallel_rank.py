"""One of two tensor parallel ranks on the CPU: `python tensor_parallel_rank.py OUT CASE...` with PaddleNLP's variables.

A case is MODEL or MODEL+sequence or MODEL+heads. Writes {case: [loss, loss of the whole model, greatest difference of a
gradient relative to its parameter's greatest]} to OUT.
"""

from __future__ import annotations

import json
import os
import sys

import paddle
import paddle.distributed as dist
from model_cases import LENGTH, batch_of, build, dense_loss, packed_loss, summed_loss
from paddle.distributed import fleet
from paddlenlp.utils.log import logger

import paddle_flashmask
from paddle_flashmask import masks
from paddle_flashmask.integrations.paddlenlp.gloo import gloo_collectives

DEGREE = 2


def start() -> None:
    strategy = fleet.DistributedStrategy()
    strategy.hybrid_configs = {"dp_degree": 1, "mp_degree": DEGREE, "pp_degree": 1, "sharding_degree": 1}
    fleet.init(is_collective=True, strategy=strategy)


def of_rank(whole: paddle.Tensor, shape: list[int]) -> paddle.Tensor:
    for axis, (full, part) in enumerate(zip(whole.shape, shape, strict=True)):
        if full != part:
            return whole.split(DEGREE, axis=axis)[dist.get_rank()]
    return whole


def loss_of_heads(model, batch) -> paddle.Tensor:
    """Every head has a window of its own within the answers."""
    windows = [batch.mask & masks.sliding_window(LENGTH, width).expand(2) for width in (2, 4, 7, 12)]
    columns = paddle.concat([window.to_paddle() for window in windows], axis=1)
    given = (batch.input_ids, batch.labels, batch.position_ids)
    return summed_loss(model, *given, attn_mask_startend_row_indices=columns) / batch.scored


def compare(case: str) -> list[float]:
    name, _, what = case.partition("+")
    batch = batch_of("share question, n=1")
    options = {"sequence_parallel": True, "seq_length": LENGTH} if what == "sequence" else {}
    options |= {"tensor_parallel_degree": DEGREE, "tensor_parallel_rank": dist.get_rank()}
    whole, part = build(name), build(name, flash=True, tensor_parallel_output=False, **options)
    parameters = dict(whole.named_parameters())
    for key, parameter in part.named_parameters():
        parameter.set_value(of_rank(parameters[key], parameter.shape))
    loss_of = loss_of_heads if what == "heads" else packed_loss
    with paddle_flashmask.enabled():
        expected = loss_of(whole, batch) if what == "heads" else dense_loss(whole, batch)
        expected.backward()
        loss = loss_of(part, batch)
        loss.backward()
    difference = 0.0
    for key, parameter in part.named_parameters():
        gradient = of_rank(parameters[key].grad, parameter.shape)
        if getattr(parameter, "sequence_parallel", False):
            dist.all_reduce(parameter.grad)  # every rank has that of its own rows
        difference = max(difference, float((parameter.grad - gradient).abs().max() / gradient.abs().max()))
    return [float(loss), float(expected), difference]


if __name__ == "__main__":
    logger.set_level("ERROR")
    start()
    with gloo_collectives():
        result = {case: compare(case) for case in sys.argv[2:]}
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(result, out)
    dist.barrier()
    os._exit(0)  # Gloo's threads sometimes abort while the interpreter ends
