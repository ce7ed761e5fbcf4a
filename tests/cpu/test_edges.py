"""Zero sizes, absent gradients, extreme numbers and broadcast inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import mask_samples
from support.call import Call, run
from support.compare import Expectation, assert_same_bits
from support.dense import GRADIENTS
from support.dtypes import round_to
from support.library import Kernels, Tensor
from support.problem import Problem

DTYPES = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize("sizes", [(0, 5, 5), (2, 0, 5), (2, 5, 0), (2, 0, 0), (0, 0, 0)])
@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_zero_sizes(kernels: Kernels, isa: str, sizes: tuple[int, int, int], sink: bool, masked: bool) -> None:
    batch, seqlen_q, seqlen_k = sizes
    startend = np.zeros((batch, 1, seqlen_k, 1), np.int32) if masked else None
    problem = Problem(
        batch=batch, seqlen_q=seqlen_q, seqlen_k=seqlen_k, sink=sink, dlse=True, startend=startend, causal=masked
    )
    result = run(kernels, problem)
    for name in ("out", "dquery", "dkey", "dvalue"):
        assert (result[name] == 0).all(), name
    if sink:
        expected = problem.inputs["sink"][None, :, None]
        np.testing.assert_allclose(result["lse"], np.broadcast_to(expected, result["lse"].shape), rtol=1e-6)
        np.testing.assert_allclose(result["dsink"], problem.inputs["dlse"].sum(axis=(0, 2)), rtol=1e-5, atol=1e-6)
    else:
        assert (result["lse"] == -np.inf).all()


def everything(dtype: str = "float32", **changes) -> Problem:
    problem = Problem(
        batch=2,
        seqlen_q=150,
        seqlen_k=270,
        heads_q=4,
        heads_kv=2,
        head_dim=24,
        head_dim_v=20,
        dtype=dtype,
        sink=True,
        dlse=True,
        dropout=0.2,
        **changes,
    )
    rng = np.random.default_rng(8)
    problem.startend, problem.causal = mask_samples.sample_mask("causal_document", rng, 2, 1, 150, 270)
    return problem


def test_each_subset_of_gradients(kernels: Kernels, isa: str) -> None:
    """Requesting fewer gradients does not change the bits of the others."""
    problem = everything()
    whole = run(kernels, problem)
    for count in range(len(GRADIENTS)):
        for wanted in itertools.combinations(GRADIENTS, count):
            result = run(kernels, problem, gradients=wanted)
            expected = {name: whole[name] for name in ("out", "lse", *wanted)}
            assert_same_bits(expected, result, f"when only {wanted} are wanted")


@pytest.mark.parametrize("dtype", DTYPES)
def test_absent_gradient_inputs_count_as_zero(kernels: Kernels, isa: str, dtype: str) -> None:
    for absent in (("dout",), ("dlse",), ("dout", "dlse")):
        problem = everything(dtype)
        call = Call(kernels, problem)
        call.forward()
        if "dout" in absent:
            call.params.dout = Tensor()
        if "dlse" in absent:
            call.params.dlse = None
        result = call.backward()
        zeroed = everything(dtype)
        zeroed.__dict__["inputs"] = {n: x * 0 if n in absent else x for n, x in problem.inputs.items()}
        Expectation(zeroed).check(result, f"without {absent}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("magnitude", [0.0, 1e-4, 10.0, 40.0])
def test_magnitudes(kernels: Kernels, isa: str, dtype: str, magnitude: float) -> None:
    """Magnitudes from all scores equal up to a nearly one-hot softmax."""
    problem = everything(dtype, magnitude=magnitude)
    # Without fused multiply-add the products of a score are rounded, unlike NumPy's. At 40 scores reach 5000, and a
    # row with two nearly equal scores determines the largest error.
    factor = 4.0 if (isa, magnitude, dtype) == ("portable", 40.0, "float32") else 2.0
    Expectation(problem, factor).check(run(kernels, problem), isa)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_that_would_overflow_exp(kernels: Kernels, isa: str, dtype: str) -> None:
    """Scores of a few thousand with one sign per row, whose exponentials overflow unless the maximum is subtracted."""
    problem = Problem(seqlen_q=70, seqlen_k=200, heads_q=1, heads_kv=1, head_dim=8, head_dim_v=8, dtype=dtype)
    inputs = dict(problem.inputs)
    for sign in (-1.0, 1.0):
        problem.__dict__["inputs"] = {
            **inputs,
            "query": np.full_like(inputs["query"], sign * 64.0),
            "key": np.full_like(inputs["key"], 32.0),
        }
        result = run(kernels, problem)
        mean = inputs["value"].astype(np.float64).mean(axis=1, keepdims=True)
        np.testing.assert_allclose(result["out"], np.broadcast_to(mean, result["out"].shape), atol=2e-3)
        score = sign * 64.0 * 32.0 * 8 * problem.scale
        np.testing.assert_allclose(result["lse"], score + np.log(200), rtol=1e-6)
        assert all(np.isfinite(result[name]).all() for name in ("dquery", "dkey", "dvalue"))


def test_each_probability_is_accurate(kernels: Kernels, isa: str) -> None:
    """With the identity as value, `out` holds the probabilities: a few roundings and an exp accurate to 1e-7."""
    problem = Problem(seqlen_q=64, seqlen_k=128, heads_q=1, heads_kv=1, head_dim=1, head_dim_v=128, softmax_scale=1.0)
    inputs = dict(problem.inputs)
    inputs["query"] = np.linspace(0.01, 1.0, 64, dtype=np.float32).reshape(1, 64, 1, 1)
    inputs["key"] = np.linspace(-1.5, 0.0, 128, dtype=np.float32).reshape(1, 128, 1, 1)
    inputs["value"] = np.eye(128, dtype=np.float32).reshape(1, 128, 1, 128)
    problem.__dict__["inputs"] = inputs
    probabilities = Expectation(problem).truth["out"]
    np.testing.assert_allclose(run(kernels, problem)["out"], probabilities, rtol=5e-7, atol=0)


@pytest.mark.parametrize("sink", [-np.inf, -1e30, 1e4])
def test_extreme_sinks(kernels: Kernels, isa: str, sink: float) -> None:
    problem = Problem(seqlen_q=40, seqlen_k=50, sink=True)
    problem.startend, problem.causal = mask_samples.sample_mask("stripes", np.random.default_rng(1), 1, 1, 40, 50)
    inputs = dict(problem.inputs)
    problem.__dict__["inputs"] = {**inputs, "sink": np.full(2, sink, np.float32)}
    result = run(kernels, problem)
    if sink == 1e4:  # the sink has all the weight
        assert (result["out"] == 0).all() and (result["lse"] == np.float32(1e4)).all()
        return
    blind = ~problem.visible.any(axis=-1)
    assert blind.any() and not blind.all()
    without = Problem(seqlen_q=40, seqlen_k=50, startend=problem.startend, causal=problem.causal)
    without.__dict__["inputs"] = {name: x for name, x in inputs.items() if name != "sink"}
    expected = run(kernels, without)
    for name, value in expected.items():
        seen = ~blind if name == "lse" else np.ones(value.shape, bool)
        np.testing.assert_allclose(result[name][seen], value[seen], rtol=1e-6, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(result["lse"][blind], np.float32(sink), rtol=1e-6)
    if sink == -np.inf:
        assert (result["dsink"] == 0).all()


def test_gradient_of_lse_is_ignored_where_nothing_is_seen(kernels: Kernels, isa: str) -> None:
    problem = Problem(seqlen_q=90, seqlen_k=90, dlse=True)
    problem.startend, problem.causal = mask_samples.sample_mask("stripes", np.random.default_rng(4), 1, 1, 90, 90)
    blind = ~problem.visible.any(axis=-1)
    assert blind.any()
    clean = run(kernels, problem)
    inputs = {name: x.copy() for name, x in problem.inputs.items()}
    inputs["dlse"][blind] = np.nan
    problem.__dict__["inputs"] = inputs
    assert_same_bits(clean, run(kernels, problem), "when dlse of blind rows is NaN")


def test_one_mask_and_one_key_for_all_by_strides_of_zero(kernels: Kernels, isa: str) -> None:
    """Inputs may be broadcast with a stride of zero."""
    problem = Problem(batch=3, heads_q=4, heads_kv=4, heads_mask=4, seqlen_q=70, seqlen_k=140)
    columns, problem.causal = mask_samples.sample_mask("causal_document", np.random.default_rng(9), 1, 1, 70, 140)
    problem.startend = np.ascontiguousarray(np.broadcast_to(columns, (3, 4, 140, 1)))
    inputs = dict(problem.inputs)
    for name in ("key", "value"):
        inputs[name] = np.ascontiguousarray(np.broadcast_to(inputs[name][:1, :, :1], inputs[name].shape))
    problem.__dict__["inputs"] = inputs
    expected = run(kernels, problem)
    call = Call(kernels, problem)
    call.params.startend_stride_batch = call.params.startend_stride_head = 0
    for tensor in (call.params.key, call.params.value):
        tensor.stride_batch = tensor.stride_head = 0
    assert_same_bits(expected, {**call.forward(), **call.backward()}, "with strides of zero")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_results_of_any_magnitude_are_rounded_to_nearest(kernels: Kernels, isa: str, dtype: str) -> None:
    """dkey = softmax_scale * query / 2 in each head, for scales from 2^-149 to 1: subnormals, ties and underflow."""
    problem = Problem(seqlen_q=1, seqlen_k=2, heads_q=200, heads_kv=200, head_dim=1, head_dim_v=1, dtype=dtype)
    query = problem.inputs["query"]
    inputs = {"query": query, "key": np.zeros((1, 2, 200, 1), np.float32)}
    inputs["value"] = np.broadcast_to(np.array([1, -1], np.float32).reshape(1, 2, 1, 1), (1, 2, 200, 1)).copy()
    inputs["dout"] = np.ones((1, 1, 200, 1), np.float32)
    problem.__dict__["inputs"] = inputs
    for exponent in np.linspace(-149, 0, 38):
        problem.softmax_scale = float(np.float32(2.0**exponent))
        half = query[0, 0] * np.float32(problem.scale) * np.float32(0.5)
        expected = round_to(np.stack([half, -half]), dtype)
        np.testing.assert_array_equal(run(kernels, problem)["dkey"][0], expected, err_msg=str(exponent))
