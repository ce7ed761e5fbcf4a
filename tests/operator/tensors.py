"""Conversion of problems of tests/support to Paddle tensors, and of the operator's results to arrays."""

from __future__ import annotations

import numpy as np
import paddle
from support.problem import Problem

from paddle_flashmask import flashmask_attention


def tensor(values: np.ndarray, dtype: str = "float32", needs_grad: bool = False) -> paddle.Tensor:
    result = paddle.to_tensor(np.ascontiguousarray(values)).astype(dtype)
    result.stop_gradient = not needs_grad
    return result


def array(value: paddle.Tensor) -> np.ndarray:
    return value.astype("float32").numpy()


def inputs_of(problem: Problem, needs_grad: tuple[str, ...] = ("query", "key", "value", "sink")) -> dict:
    """query, key, value, and sink if the problem has one."""
    names = ("query", "key", "value", *(["sink"] if problem.sink else []))
    dtype_of = {"sink": "float32"}
    return {n: tensor(problem.inputs[n], dtype_of.get(n, problem.dtype), n in needs_grad) for n in names}


def options_of(problem: Problem) -> dict:
    """Keyword arguments for the mask and the features of a problem."""
    options = {"causal": problem.causal, "softmax_scale": problem.softmax_scale, "window_size": problem.window}
    if problem.startend is not None:
        options["startend_row_indices"] = paddle.to_tensor(problem.startend)
    if problem.block_mask is not None:
        options["block_mask"] = paddle.to_tensor(problem.block_mask)
    if problem.dropout:
        options["dropout"] = problem.dropout
        options["fixed_seed_offset"] = paddle.to_tensor([problem.seed, problem.offset], dtype="int64")
    return options


def attend(inputs: dict, options: dict, function=flashmask_attention) -> list[paddle.Tensor]:
    """[out, lse] of one call."""
    return function(
        inputs["query"],
        inputs["key"],
        inputs["value"],
        learnable_sink=inputs.get("sink"),
        return_softmax_lse=True,
        **options,
    )


def outer_gradients(problem: Problem) -> list[paddle.Tensor]:
    """Gradients of out, and of lse if the problem has one, that the backward pass starts from."""
    gradients = [tensor(problem.inputs["dout"], problem.dtype)]
    if problem.dlse:
        gradients.append(tensor(problem.inputs["dlse"]))
    return gradients


def results(problem: Problem, function=flashmask_attention) -> dict[str, np.ndarray]:
    """out, lse and every gradient, named as in support.dense."""
    inputs = inputs_of(problem)
    outputs = attend(inputs, options_of(problem), function)
    outer = outer_gradients(problem)
    gradients = paddle.grad(outputs[: len(outer)], list(inputs.values()), outer)
    found = {"out": array(outputs[0]), "lse": array(outputs[1])}
    found.update({f"d{name}": array(gradient) for name, gradient in zip(inputs, gradients, strict=True)})
    return found


def largest_difference(a: paddle.Tensor, b: paddle.Tensor) -> float:
    return float((a.astype("float32") - b.astype("float32")).abs().max())
