"""Values and gradients of the Paddle operator against the dense reference, with the same arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest
from support import mask_samples
from support.cases import problem_of
from support.compare import Expectation
from support.pairwise import pairwise
from support.problem import Problem

from paddle_flashmask import flashmask_attention, reference

CASES = pairwise(
    {
        "kind": mask_samples.kinds(),
        "size": [(1, 1), (65, 65), (40, 130), (130, 40), (129, 129)],
        "dtype": ["float32", "bfloat16", "float16"],
        "heads": [(2, 2, 1), (4, 2, 4), (4, 1, 2)],
        "dims": [(16, 16), (7, 7), (24, 40)],
        "window": [(-1, -1), (20, 5)],
        "dropout": [0.0, 0.3],
        "sink": [False, True],
        "dlse": [False, True],
        "blocks": [False, True],
    }
)


def results_of(attention, problem: Problem, dtype: str) -> dict[str, np.ndarray]:
    tensors = {}
    for name, values in problem.inputs.items():
        tensor = paddle.to_tensor(values.astype(np.float64) if dtype == "float64" else values)
        tensors[name] = tensor.astype(dtype) if name in ("query", "key", "value", "dout") else tensor
    sources = ["query", "key", "value"] + (["sink"] if problem.sink else [])
    for name in sources:
        tensors[name].stop_gradient = False
    out, lse = attention(
        tensors["query"],
        tensors["key"],
        tensors["value"],
        None if problem.startend is None else paddle.to_tensor(problem.startend),
        causal=problem.causal,
        window_size=problem.window,
        dropout=problem.dropout,
        fixed_seed_offset=paddle.to_tensor(np.array([problem.seed, problem.offset], np.int64)),
        block_mask=None if problem.block_mask is None else paddle.to_tensor(problem.block_mask),
        learnable_sink=tensors.get("sink"),
        softmax_scale=problem.scale,
        return_softmax_lse=True,
    )
    outputs, gradients = [out], [tensors["dout"]]
    if problem.dlse:
        outputs.append(lse)
        gradients.append(tensors["dlse"])
    paddle.autograd.backward(outputs, gradients)
    found = {"out": out, "lse": lse, **{f"d{name}": tensors[name].grad for name in sources}}
    return {name: x.astype("float64" if dtype == "float64" else "float32").numpy() for name, x in found.items()}


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_operator_is_the_specification(case: dict) -> None:
    problem = replace(problem_of({**case, "batch": 2}), seed=2**40 + 1)  # Paddle's seeds are int64
    expectation = Expectation(problem)
    truth = results_of(reference.flashmask_attention, problem, "float64")
    for name, value in truth.items():
        np.testing.assert_allclose(value, expectation.truth[name], rtol=1e-9, atol=1e-9, err_msg=name)
    expectation.check(results_of(flashmask_attention, problem, case["dtype"]))
