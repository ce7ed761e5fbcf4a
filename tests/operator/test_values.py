"""The operator in dynamic mode: values and gradients against the dense truth, and which gradients it returns."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from support.compare import Expectation
from support.dtypes import round_to
from support.mask_samples import kinds, sample_mask
from support.problem import Problem
from tensors import array, attend, inputs_of, options_of, outer_gradients, results, tensor

from paddle_flashmask import flashmask_attention
from paddle_flashmask.reference import flashmask_attention as dense_attention


def masked(kind: str, **changes) -> Problem:
    """Small problem with ragged sizes and grouped heads under a mask of this kind."""
    shape = {"batch": 2, "seqlen_q": 37, "seqlen_k": 37, "heads_q": 4, "heads_kv": 2, "heads_mask": 2, **changes}
    rng = np.random.default_rng(3)
    heads = shape["heads_mask"]
    startend, causal = sample_mask(kind, rng, shape["batch"], heads, shape["seqlen_q"], shape["seqlen_k"])
    return Problem(startend=startend, causal=causal, **shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", kinds())
def test_values_and_gradients(kind: str, dtype: str) -> None:
    problem = masked(kind, dtype=dtype)
    Expectation(problem).check(results(problem))


FEATURES = {
    "every output's gradient": {"dlse": True},
    "sink": {"sink": True, "dlse": True},
    "window and columns": {"window": (9, 4)},
    "dropout": {"dropout": 0.25, "sink": True, "dlse": True},
    "other value dim": {"head_dim": 24, "head_dim_v": 40},
    "more keys": {"seqlen_k": 61},
    "fewer keys": {"seqlen_k": 19},
    "one key head": {"heads_kv": 1, "heads_mask": 1},
    "mask per query head": {"heads_mask": 4},
    "scale": {"softmax_scale": 0.7},
}


@pytest.mark.parametrize("kind", ["random_1", "random_4"])
@pytest.mark.parametrize("feature", FEATURES)
def test_features(feature: str, kind: str) -> None:
    problem = masked(kind, **FEATURES[feature])
    Expectation(problem).check(results(problem))


def test_block_mask_alone_and_with_columns() -> None:
    blocks = np.array([[[[1, 0], [0, 1]]], [[[1, 1], [1, 0]]]], dtype=np.int32)
    size = {"batch": 2, "seqlen_q": 140, "seqlen_k": 130, "heads_mask": 1, "block_mask": blocks}
    for problem in (Problem(**size), masked("random_2_causal", **size)):
        Expectation(problem).check(results(problem))


def test_reference_takes_the_same_arguments_and_agrees() -> None:
    problem = masked("random_4", sink=True, dlse=True, window=(20, 20))
    Expectation(problem).check(results(problem, dense_attention), "(reference)")


@pytest.mark.parametrize("needed", [("query",), ("key",), ("value",), ("sink",), ("key", "sink")])
def test_only_the_inputs_that_need_a_gradient_get_one(needed: tuple[str, ...]) -> None:
    problem = masked("random_1", sink=True, dlse=True)
    inputs = inputs_of(problem, needs_grad=needed)
    outputs = attend(inputs, options_of(problem))
    paddle.autograd.backward(outputs, outer_gradients(problem))
    assert {name for name, value in inputs.items() if value.grad is not None} == set(needed)
    expected = Expectation(problem)
    expected.check({f"d{name}": array(inputs[name].grad) for name in needed})


def test_without_gradients_nothing_is_recorded() -> None:
    problem = masked("causal")
    out, lse = attend(inputs_of(problem, needs_grad=()), options_of(problem))
    assert out.stop_gradient and lse.stop_gradient


@pytest.mark.parametrize("sink", [False, True])
def test_under_no_grad_nothing_is_recorded(sink: bool) -> None:
    problem = masked("causal", sink=sink)
    with paddle.no_grad():
        out, lse = attend(inputs_of(problem), options_of(problem))
    assert out.stop_gradient and lse.stop_gradient
    Expectation(problem).check({"out": array(out), "lse": array(lse)})


def test_loss_of_lse_alone() -> None:
    problem = masked("random_1", sink=True, dlse=True)
    problem.inputs["dout"][...] = 0
    inputs = inputs_of(problem)
    _, lse = attend(inputs, options_of(problem))
    lse.backward(tensor(problem.inputs["dlse"]))
    Expectation(problem).check({f"d{name}": array(value.grad) for name, value in inputs.items()})


def test_infinite_lse_of_unseen_rows_has_no_gradient() -> None:
    columns = np.zeros((1, 1, 64, 1), np.int32)  # every row from row 0 on is masked
    problem = Problem(startend=columns, causal=True, dlse=True)
    found = results(problem)
    assert np.all(found["out"] == 0) and np.all(np.isneginf(found["lse"]))
    assert all(np.all(found[name] == 0) for name in ("dquery", "dkey", "dvalue"))


def test_strided_inputs() -> None:
    problem = masked("causal_document")
    inputs = inputs_of(problem)
    packed = paddle.concat([inputs["query"], inputs["key"], inputs["value"]], axis=2).detach()
    packed.stop_gradient = False
    heads = problem.heads_q
    query = packed[:, :, :heads]
    key = packed[:, :, heads : heads + problem.heads_kv]
    value = packed.transpose([0, 2, 1, 3]).transpose([0, 2, 1, 3])[:, :, heads + problem.heads_kv :]
    startend = paddle.to_tensor(np.repeat(problem.startend, 2, axis=3))[:, :, :, ::2]
    out = flashmask_attention(query, key, value, startend, causal=True)
    out.backward(tensor(problem.inputs["dout"]))
    gradients = np.split(packed.grad.numpy(), [heads, heads + problem.heads_kv], axis=2)
    found = dict(zip(("dquery", "dkey", "dvalue"), gradients, strict=True))
    Expectation(problem).check({"out": array(out), **found})


@pytest.mark.parametrize(("batch", "seqlen_q", "seqlen_k"), [(0, 5, 5), (2, 0, 5), (2, 5, 0), (2, 0, 0)])
@pytest.mark.parametrize("with_sink", [False, True])
def test_zero_sizes(batch: int, seqlen_q: int, seqlen_k: int, with_sink: bool) -> None:
    query = tensor(np.ones((batch, seqlen_q, 2, 8)), needs_grad=True)
    key = tensor(np.ones((batch, seqlen_k, 2, 8)), needs_grad=True)
    value = tensor(np.ones((batch, seqlen_k, 2, 4)), needs_grad=True)
    sink = tensor(np.array([0.5, -1.0]), needs_grad=True) if with_sink else None
    startend = paddle.full([batch, 1, seqlen_k, 1], 3, dtype="int32")
    out, lse = flashmask_attention(
        query, key, value, startend, causal=True, learnable_sink=sink, return_softmax_lse=True
    )
    assert list(out.shape) == [batch, seqlen_q, 2, 4] and list(lse.shape) == [batch, 2, seqlen_q]
    assert not out.numpy().any()
    if seqlen_k == 0 and with_sink:
        np.testing.assert_array_equal(lse.numpy(), np.broadcast_to([[[0.5], [-1.0]]], lse.shape))
    elif seqlen_k == 0:
        assert np.all(np.isneginf(lse.numpy()))
    (out.sum() + lse.sum()).backward()
    for name, value_of in (("query", query), ("key", key), ("value", value)):
        assert value_of.grad is None or not value_of.grad.numpy().any(), name


def test_indices_are_clipped() -> None:
    problem = masked("random_4", heads_mask=1)
    beyond = problem.startend.copy()
    beyond[beyond >= problem.seqlen_q] = 2**31 - 1
    beyond[beyond <= 0] = -(2**31)
    options = options_of(problem)
    expected = attend(inputs_of(problem), options)[0]
    found = attend(inputs_of(problem), {**options, "startend_row_indices": paddle.to_tensor(beyond)})[0]
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_what_is_returned() -> None:
    query = tensor(np.ones((1, 3, 1, 4)))
    assert isinstance(flashmask_attention(query, query, query), paddle.Tensor)
    both = flashmask_attention(query, query, query, return_softmax_lse=True, return_seed_offset=True)
    assert [list(x.shape) for x in both] == [[1, 3, 1, 4], [1, 1, 3], [2]]
    assert both[1].dtype == paddle.float32 and both[2].dtype == paddle.int64
    only_seed = flashmask_attention(query, query, query, return_seed_offset=True)
    assert [list(x.shape) for x in only_seed] == [[1, 3, 1, 4], [2]]


def test_integer_window_is_both_sides() -> None:
    problem = masked("full")
    inputs = inputs_of(problem)
    one = attend(inputs, {"window_size": 5})[0]
    pair = attend(inputs, {"window_size": (5, 5)})[0]
    np.testing.assert_array_equal(one.numpy(), pair.numpy())


def test_sink_may_have_the_dtype_of_query() -> None:
    problem = masked("causal", dtype="bfloat16", sink=True)
    inputs = inputs_of(problem)
    sink = inputs["sink"].detach().astype("bfloat16")
    sink.stop_gradient = False
    out, _ = attend({**inputs, "sink": sink}, options_of(problem))
    out.sum().backward()
    assert sink.grad.dtype == paddle.bfloat16 and np.all(np.isfinite(array(sink.grad)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradient_of_a_16_bit_sink_is_the_float32_gradient_rounded(dtype: str) -> None:
    """For magnitudes from 2^-150 to 1. Paddle's cast to float16 on the CPU is wrong below the smallest float16."""
    heads = 1500
    random = np.random.default_rng(0)
    sinks = np.sort(random.uniform(-104, 0, heads)).astype(np.float32)
    query, key = (paddle.zeros([1, 1, heads, 1]) for _ in range(2))
    value = tensor(random.standard_normal((1, 1, heads, 1)).astype(np.float32))

    def gradient(sink: paddle.Tensor) -> np.ndarray:
        sink.stop_gradient = False
        flashmask_attention(query, key, value, learnable_sink=sink).sum().backward()
        assert sink.grad.dtype == sink.dtype
        return array(sink.grad)

    narrow = tensor(sinks, dtype)
    exact = gradient(narrow.astype("float32"))
    assert np.count_nonzero(np.abs(exact) < 2.0**-75) > 100
    np.testing.assert_array_equal(gradient(narrow.detach().clone()), round_to(exact, dtype))


def test_deterministic_may_be_asked_for() -> None:
    problem = masked("random_1")
    first, second = (
        attend(inputs_of(problem), {**options_of(problem), "deterministic": flag})[0] for flag in (True, False)
    )
    np.testing.assert_array_equal(first.numpy(), second.numpy())
