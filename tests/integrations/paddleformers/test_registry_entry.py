"""The entry of PaddleFormers' registry by itself: layouts, options, and rejected arguments."""

from __future__ import annotations

import types

import numpy as np
import paddle
import pytest
from paddleformers.nn.attention.eager_attention import eager_attention_forward

from paddle_flashmask import masks
from paddle_flashmask.integrations.paddleformers.attention import CHANGES_ATTENTION, paddle_flashmask_attention

B, HEADS, KV_HEADS, S, D = 2, 4, 2, 12, 8


def layer(config: dict | None = None, **attributes) -> paddle.nn.Layer:
    made = paddle.nn.Layer()
    made.config = types.SimpleNamespace(**(config or {}))
    made.num_key_value_groups = HEADS // KV_HEADS
    for name, value in attributes.items():
        setattr(made, name, value)
    made.eval()
    return made


def states(queries: int = S, keys: int = S, value_dim: int = D, seed: int = 0, dtype: str = "float32"):
    rng = np.random.default_rng(seed)
    shapes = [(B, HEADS, queries, D), (B, KV_HEADS, keys, D), (B, KV_HEADS, keys, value_dim)]
    made = [paddle.to_tensor(rng.standard_normal(shape).astype("float32")).astype(dtype) for shape in shapes]
    for tensor in made:
        tensor.stop_gradient = False
    return made


def additive(mask: masks.ColumnMask) -> paddle.Tensor:
    visible = paddle.to_tensor(mask.to_dense())
    return paddle.where(visible, paddle.zeros([1]), paddle.full([1], -1e6))


def expect(tensors, found, mask: paddle.Tensor | None, **options) -> None:
    """Output and gradients are those of PaddleFormers' eager attention under the dense mask."""
    options.setdefault("scaling", D**-0.5)
    weights = paddle.to_tensor(np.random.default_rng(9).standard_normal(found.shape).astype("float32"))
    (found * weights).sum().backward()
    gradients = [tensor.grad.numpy() for tensor in tensors]
    for tensor in tensors:
        tensor.clear_gradient()
    expected, _ = eager_attention_forward(layer(), *tensors[:3], attention_mask=mask, **options)
    (expected * weights).sum().backward()
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    for mine, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(mine, tensor.grad.numpy(), rtol=1e-5, atol=1e-5)


CAUSAL = additive(masks.causal(S))
MASKS = {
    "one bound": (masks.causal_document([5, 7]), {}, {}),
    "two bounds, causal by default": (masks.causal_blockwise([3, 4, 5]), {}, {}),
    "two bounds, causal by the call": (masks.causal_blockwise([3, 4, 5]), {"flash_mask_causal": False}, {}),
    "two bounds, not causal by the config": (masks.document([5, 7]), {"flash_mask_causal": False}, {}),
    "two bounds, not causal by the layer": (masks.document([5, 7]), {}, {"is_causal": False}),
    "four bounds": (masks.global_sliding_window(S, global_tokens=2, window=3), {}, {}),
}


@pytest.mark.parametrize("kind", MASKS)
def test_columns_equal_the_dense_mask(kind):
    mask, config, attributes = MASKS[kind]
    tensors = states()
    columns = mask.to_paddle().expand([B, 1, S, -1])
    options = {"is_causal": True} if "causal by the call" in kind else {}
    out, weights = paddle_flashmask_attention(
        layer(config, **attributes), *tensors, attn_mask_startend_row_indices=columns, **options
    )
    assert out.shape == [B, S, HEADS * D] and weights is None
    expect(tensors, out, additive(mask))


def test_indices_without_the_last_axis_are_one_bound():
    tensors = states()
    columns = masks.causal_document([5, 7]).to_paddle().expand([B, 1, S, 1])[..., 0]
    out, _ = paddle_flashmask_attention(layer(), *tensors, attn_mask_startend_row_indices=columns)
    expect(tensors, out, additive(masks.causal_document([5, 7])))


def test_no_mask_is_causal_unless_someone_says_otherwise():
    for attributes, options, mask in (
        ({}, {}, CAUSAL),
        ({"is_causal": False}, {}, None),
        ({}, {"is_causal": False}, None),
        ({"is_causal": False}, {"is_causal": True}, CAUSAL),
    ):
        tensors = states()
        out, _ = paddle_flashmask_attention(layer(**attributes), *tensors, **options)
        expect(tensors, out, mask)


def test_scaling_and_sink():
    tensors = [*states(), paddle.to_tensor([0.3, -1.0, 2.0, 0.0], stop_gradient=False)]
    out, _ = paddle_flashmask_attention(layer(), *tensors[:3], sink=tensors[3], scaling=0.7)
    expect(tensors, out, CAUSAL, sink=tensors[3], scaling=0.7)


def test_values_may_have_a_size_of_their_own():
    tensors = states(value_dim=6)
    out, _ = paddle_flashmask_attention(layer(), *tensors)
    assert out.shape == [B, S, HEADS * 6]
    expect(tensors, out, CAUSAL)


def test_queries_are_the_last_ones_when_there_are_more_keys():
    tensors = states(queries=3)
    out, _ = paddle_flashmask_attention(layer(), *tensors)
    expect(tensors, out, CAUSAL[:, :, -3:])


WINDOW_LAYERS = {
    "of the layer": (layer(sliding_window=4), {}),
    "of the call": (layer(), {"sliding_window": 4}),
    "of the call, in a sliding layer": (
        layer({"layer_types": ["full_attention", "sliding_attention"]}, layer_idx=1),
        {"sliding_window": 4},
    ),
}


@pytest.mark.parametrize("kind", WINDOW_LAYERS)
@pytest.mark.parametrize("columns", [None, masks.causal_document([5, 7])])
def test_sliding_window(kind, columns):
    sliding, options = WINDOW_LAYERS[kind]
    tensors = states()
    mask = masks.sliding_window(S, 4) if columns is None else columns & masks.sliding_window(S, 4)
    if columns is not None:
        options = {**options, "attn_mask_startend_row_indices": columns.to_paddle().expand([B, 1, S, 1])}
    out, _ = paddle_flashmask_attention(sliding, *tensors, **options)
    expect(tensors, out, additive(mask))


def test_a_layer_of_full_attention_has_no_window():
    tensors = states()
    full = layer({"layer_types": ["full_attention", "sliding_attention"]}, layer_idx=0)
    out, _ = paddle_flashmask_attention(full, *tensors, sliding_window=4)
    expect(tensors, out, CAUSAL)


def test_a_dense_mask_is_added_with_scaling_and_sink():
    mask = additive(masks.document([5, 7]))
    sink = paddle.to_tensor([0.3, -1.0, 2.0, 0.0], stop_gradient=False)
    tensors = [*states(), sink]
    out, _ = paddle_flashmask_attention(layer(), *tensors[:3], attention_mask=mask, sink=sink, scaling=0.7)
    expect(tensors, out, mask, sink=sink, scaling=0.7)
    tensors = states()
    out, _ = paddle_flashmask_attention(layer(), *tensors, attention_mask=mask)
    expect(tensors, out, mask)


def test_dropout_follows_the_seed_and_stops_in_evaluation():
    tensors = states()
    training = layer()
    training.train()
    outs = []
    for seed in (5, 5, 6):
        paddle.seed(seed)
        outs.append(paddle_flashmask_attention(training, *tensors, dropout=0.5)[0].numpy())
    np.testing.assert_array_equal(outs[0], outs[1])
    assert np.abs(outs[0] - outs[2]).max() > 0.1
    evaluated = paddle_flashmask_attention(layer(), *tensors, dropout=0.5)[0]
    np.testing.assert_array_equal(evaluated.numpy(), paddle_flashmask_attention(layer(), *tensors)[0].numpy())


def test_bfloat16_is_within_its_rounding():
    tensors = states(dtype="bfloat16")
    mask = masks.causal_document([5, 7])
    columns = mask.to_paddle().expand([B, 1, S, 1])
    out, _ = paddle_flashmask_attention(layer(), *tensors, attn_mask_startend_row_indices=columns)
    assert out.dtype == paddle.bfloat16
    exact_states = [tensor.detach().astype("float32") for tensor in tensors]
    exact, _ = paddle_flashmask_attention(layer(), *exact_states, attn_mask_startend_row_indices=columns)
    error = (out.astype("float32") - exact).abs().max()
    assert 0 < error <= 2 * 2.0**-8 * exact.abs().max()


ONE = masks.causal_document([5, 7]).to_paddle().expand([B, 1, S, 1])
REFUSED = {
    "both masks": ({"attention_mask": CAUSAL, "attn_mask_startend_row_indices": ONE}, {}, ValueError, "both given"),
    "a boolean dense mask": ({"attention_mask": CAUSAL > -1}, {}, TypeError, "must be floating"),
    "a padding mask": (
        {"attention_mask": paddle.zeros([B, S])},
        {},
        ValueError,
        r"must be \[2 or 1, 4 or 1, 12 or 1, at least 12\]; got \[2, 12\]",
    ),
    "too few keys": ({"attention_mask": CAUSAL[..., :5]}, {}, ValueError, r"at least 12\]; got \[1, 1, 12, 5\]"),
    "three bounds": (
        {"attn_mask_startend_row_indices": ONE.expand([B, 1, S, 3])},
        {},
        ValueError,
        r"n in 1, 2, 4; got shape \[2, 1, 12, 3\]",
    ),
    "one row of indices": ({"attn_mask_startend_row_indices": ONE[:, 0, :, 0]}, {}, ValueError, r"got shape \[2, 12\]"),
    "one bound, not causal": (
        {"attn_mask_startend_row_indices": ONE, "is_causal": False},
        {},
        ValueError,
        "n = 1 are causal, but is_causal is False",
    ),
    "four bounds, causal": (
        {"attn_mask_startend_row_indices": ONE.expand([B, 1, S, 4]), "is_causal": True},
        {},
        ValueError,
        "n = 4 are not causal",
    ),
    "context parallel": ({}, {"context_parallel_size": 2}, NotImplementedError, "context_parallel_size = 2"),
    "split sequences": ({}, {"sep_parallel_size": 2}, NotImplementedError, "sep_parallel_size = 2"),
    "alibi": ({}, {"alibi": True}, NotImplementedError, "alibi"),
    "heads of several ranks": (
        {"attn_mask_startend_row_indices": ONE.expand([B, 2, S, 1])},
        {"tensor_model_parallel_size": 2},
        NotImplementedError,
        "2 heads and tensor_model_parallel_size = 2",
    ),
    "no window": ({"sliding_window": 0}, {}, ValueError, "sliding_window must be at least 1; got 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_lose_the_mask_is_refused(what):
    options, config, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        paddle_flashmask_attention(layer(config), *states(), **options)


@pytest.mark.parametrize("name", CHANGES_ATTENTION)
def test_other_ways_to_change_attention_are_refused(name):
    with pytest.raises(NotImplementedError, match=f"does not support {name}"):
        paddle_flashmask_attention(layer(), *states(), **{name: paddle.zeros([4])})
    paddle_flashmask_attention(layer(), *states(), **{name: None}, output_attentions=False)


def test_indices_with_a_cache_are_refused():
    with pytest.raises(NotImplementedError, match="with 3 queries and 12 keys"):
        paddle_flashmask_attention(layer(), *states(queries=3), attn_mask_startend_row_indices=ONE)


def test_a_layer_without_a_config_is_enough():
    """PaddleFormers' DeepSeek V3 passes an empty layer."""
    tensors = states()
    bare = paddle.nn.Layer()
    out, _ = paddle_flashmask_attention(bare, *tensors)
    expect(tensors, out, CAUSAL)
