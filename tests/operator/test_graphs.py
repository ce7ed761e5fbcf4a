"""The operator in static graphs: both tracers of to_static, saved models, unknown sizes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle.static import InputSpec
from tensors import largest_difference

from paddle_flashmask import flashmask_attention

HEADS, HEAD_DIM = 2, 8
WIDTH = HEADS * HEAD_DIM


class Attention(paddle.nn.Layer):
    """Projection, attention with columns and a sink, projection. Returns the output and the lse."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.project = paddle.nn.Linear(WIDTH, 3 * WIDTH)
        self.sink = self.create_parameter([HEADS])

    def forward(self, x, startend):
        qkv = self.project(x).reshape([x.shape[0], x.shape[1], 3 * HEADS, HEAD_DIM])
        query, key, value = paddle.split(qkv, 3, axis=2)
        return flashmask_attention(
            query,
            key,
            value,
            startend,
            causal=True,
            dropout=self.dropout,
            training=self.training,
            learnable_sink=self.sink,
            return_softmax_lse=True,
        )


def make(dropout: float = 0.0) -> Attention:
    paddle.seed(7)
    return Attention(dropout)


def batch(length: int = 9, size: int = 2) -> tuple[paddle.Tensor, paddle.Tensor]:
    rng = np.random.default_rng(length)
    x = paddle.to_tensor(rng.standard_normal((size, length, WIDTH), dtype=np.float32))
    x.stop_gradient = False
    startend = np.minimum(np.arange(length) + 1 + rng.integers(0, length, (size, 1, length)), length)
    return x, paddle.to_tensor(startend[..., None].astype(np.int32))


def step(layer, forward, x, startend) -> list[paddle.Tensor]:
    """out, lse, and the gradients of x, weight and sink from one backward through both outputs."""
    layer.clear_gradients()
    x.clear_gradient()
    out, lse = forward(x, startend)
    (out.square().sum() + lse.sum()).backward()
    return [out, lse, *(t.grad.clone() for t in (x, layer.project.weight, layer.sink))]


def assert_equal(found: list[paddle.Tensor], expected: list[paddle.Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("full_graph", [True, False], ids=["AST", "SOT"])
def test_to_static(full_graph: bool) -> None:
    layer = make()
    traced = paddle.jit.to_static(layer.forward, full_graph=full_graph)
    for length in (9, 12):
        x, startend = batch(length)
        assert_equal(step(layer, traced, x, startend), step(layer, layer.forward, x, startend))


def attention_without_options(query, key, value):
    return flashmask_attention(query, key, value)


@pytest.mark.parametrize("full_graph", [True, False], ids=["AST", "SOT"])
def test_to_static_without_optional_inputs(full_graph: bool) -> None:
    tensors = [paddle.randn([1, 5, 2, 4]) for _ in range(3)]
    for t in tensors:
        t.stop_gradient = False
    expected = attention_without_options(*tensors)
    expected_gradients = paddle.grad([expected.sum()], tensors)
    found = paddle.jit.to_static(attention_without_options, full_graph=full_graph)(*tensors)
    found_gradients = paddle.grad([found.sum()], tensors)
    assert_equal([found, *found_gradients], [expected, *expected_gradients])


def test_unknown_sizes() -> None:
    layer = make()
    spec = [InputSpec([None, None, WIDTH], "float32"), InputSpec([None, 1, None, 1], "int32")]
    traced = paddle.jit.to_static(layer.forward, full_graph=True, input_spec=spec)
    for length, size in ((9, 2), (14, 1)):
        x, startend = batch(length, size)
        assert_equal(step(layer, traced, x, startend), step(layer, layer.forward, x, startend))


def test_saved_model_takes_other_sizes(tmp_path) -> None:
    layer = make()
    layer.eval()
    spec = [InputSpec([None, None, WIDTH], "float32"), InputSpec([None, 1, None, 1], "int32")]
    paddle.jit.save(layer, str(tmp_path / "model"), input_spec=spec)
    loaded = paddle.jit.load(str(tmp_path / "model"))
    for length, size in ((9, 2), (5, 3)):
        x, startend = batch(length, size)
        assert_equal(list(loaded(x, startend)), list(layer(x, startend)))


def test_saved_model_loads_in_a_fresh_process(tmp_path) -> None:
    layer = make()
    layer.eval()
    x, startend = batch(9)
    spec = [InputSpec([None, None, WIDTH], "float32"), InputSpec([None, 1, None, 1], "int32")]
    paddle.jit.save(layer, str(tmp_path / "model"), input_spec=spec)
    np.savez(tmp_path / "data.npz", x=x.numpy(), startend=startend.numpy(), out=layer(x, startend)[0].numpy())
    program = f"""
import numpy, paddle, paddle_flashmask.functional
data = numpy.load({str(tmp_path / "data.npz")!r})
model = paddle.jit.load({str(tmp_path / "model")!r})
out = model(paddle.to_tensor(data["x"]), paddle.to_tensor(data["startend"]))[0]
numpy.testing.assert_allclose(out.numpy(), data["out"], rtol=1e-5, atol=1e-5)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_graph_checks_sizes_that_python_could_not_know() -> None:
    layer = make()
    spec = [InputSpec([None, None, WIDTH], "float32"), InputSpec([None, 1, None, 1], "int32")]
    traced = paddle.jit.to_static(layer.forward, full_graph=True, input_spec=spec)
    x, startend = batch(9)
    with pytest.raises((OSError, RuntimeError, ValueError), match="startend_row_indices is 8, expected 9"):
        traced(x, startend[:, :, :8])


@pytest.mark.parametrize("full_graph", [True, False], ids=["AST", "SOT"])
def test_dropout_is_not_frozen_into_the_graph(full_graph: bool) -> None:
    layer = make(dropout=0.4)
    traced = paddle.jit.to_static(layer.forward, full_graph=full_graph)
    x, startend = batch(32)
    paddle.seed(11)
    first, second = traced(x, startend)[0], traced(x, startend)[0]
    paddle.seed(11)
    again = traced(x, startend)[0]
    assert largest_difference(first, second) > 0.1
    assert largest_difference(first, again) == 0.0


def test_dropout_of_a_saved_model_is_not_frozen(tmp_path) -> None:
    layer = make(dropout=0.4)
    spec = [InputSpec([None, None, WIDTH], "float32"), InputSpec([None, 1, None, 1], "int32")]
    paddle.jit.save(layer, str(tmp_path / "model"), input_spec=spec)
    loaded = paddle.jit.load(str(tmp_path / "model"))
    x, startend = batch(32)
    assert largest_difference(loaded(x, startend)[0], loaded(x, startend)[0]) > 0.1


def test_unknown_head_dim_needs_a_scale() -> None:
    def attention(query):
        return flashmask_attention(query, query, query)

    traced = paddle.jit.to_static(attention, full_graph=True, input_spec=[InputSpec([1, 5, 2, None], "float32")])
    with pytest.raises(ValueError, match="the head dim of query is unknown in this graph: give it, or softmax_scale"):
        traced(paddle.randn([1, 5, 2, 8]))
