"""The Paddle operator and the Paddle specification, side by side: values and gradients, with the same arguments."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from support import mask_samples
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
    (seqlen_q, seqlen_k), (heads_q, heads_kv, heads_mask) = case["size"], case["heads"]
    rng = np.random.default_rng(seqlen_q + heads_q)
    startend, causal = mask_samples.sample_mask(case["kind"], rng, 2, heads_mask, seqlen_q, seqlen_k)
    blocks = None
    if case["blocks"]:
        blocks = rng.integers(0, 2, (2, heads_mask, -(-seqlen_q // 128), -(-seqlen_k // 128))).astype(np.int32)
    problem = Problem(
        batch=2,
        seqlen_q=seqlen_q,
        seqlen_k=seqlen_k,
        heads_q=heads_q,
        heads_kv=heads_kv,
        heads_mask=heads_mask,
        head_dim=case["dims"][0],
        head_dim_v=case["dims"][1],
        dtype=case["dtype"],
        causal=causal,
        window=case["window"],
        startend=startend,
        block_mask=blocks,
        dropout=case["dropout"],
        sink=case["sink"],
        dlse=case["dlse"],
    )
    expectation = Expectation(problem)
    truth = results_of(reference.flashmask_attention, problem, "float64")
    for name, value in truth.items():
        np.testing.assert_allclose(value, expectation.truth[name], rtol=1e-9, atol=1e-9, err_msg=name)
    expectation.check(results_of(flashmask_attention, problem, case["dtype"]))
