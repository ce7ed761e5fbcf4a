"""What callers of Paddle's own operator pass: accepted where it means the same."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from paddle_flashmask import flashmask_attention
from paddle_flashmask.functional import pad_lse

# Keywords of the operator of FlashMask 4 and of Paddle after 3.3, which PaddleFleet's facade passes on.
NEWER = ("learnable_sink", "use_varlen", "group")


def randn(*shape: int, dtype: str = "float32") -> paddle.Tensor:
    tensor = paddle.randn(shape).astype(dtype)
    tensor.stop_gradient = False
    return tensor


@pytest.fixture
def qkv() -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    paddle.seed(3)
    return randn(2, 70, 4, 16), randn(2, 70, 2, 16), randn(2, 70, 2, 8)


def assert_equal(found: paddle.Tensor, expected: paddle.Tensor) -> None:
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_every_parameter_of_paddle_is_one_here() -> None:
    theirs = inspect.signature(paddle.nn.functional.flashmask_attention).parameters
    ours = inspect.signature(flashmask_attention).parameters
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default), name
    for name in set(ours) - set(theirs):
        assert ours[name].kind is inspect.Parameter.KEYWORD_ONLY and not ours[name].default, name
    assert set(NEWER) <= set(ours)


def test_no_causal_is_not_causal(qkv) -> None:
    assert_equal(flashmask_attention(*qkv, causal=None), flashmask_attention(*qkv, causal=False))


@pytest.mark.parametrize("sides", [(5,), [5]])
def test_a_causal_window_may_be_its_left_side_alone(qkv, sides) -> None:
    found = flashmask_attention(*qkv, causal=True, window_size=sides)
    assert_equal(found, flashmask_attention(*qkv, causal=True, window_size=(5, 0)))


@pytest.mark.parametrize(
    ("window", "causal"), [(0, False), (5, False), ((5, 3), False), (0, True), (5, True), ((5, 3), True), ((9,), True)]
)
def test_a_window_is_the_columns_that_paddle_builds_of_it(qkv, window, causal: bool) -> None:
    left, right = (window, window) if isinstance(window, int) else (*window, 0)[:2]
    rows = np.arange(70, dtype=np.int32)
    bounds = [np.clip(rows + left + 1, 0, 70)] + ([] if causal else [np.clip(rows - right, 0, 70)])
    columns = paddle.to_tensor(np.tile(np.stack(bounds, axis=-1)[None, None], (2, 1, 1, 1)).astype(np.int32))
    found = flashmask_attention(*qkv, causal=causal, window_size=window)
    expected = flashmask_attention(*qkv, columns, causal=causal)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)


def test_a_stream_of_int32_is_the_same_stream(qkv) -> None:
    def dropped(dtype: str) -> list[paddle.Tensor]:
        stream = paddle.to_tensor([7, 2], dtype=dtype)
        return flashmask_attention(*qkv, dropout=0.5, fixed_seed_offset=stream, return_seed_offset=True)

    (found, stream), (expected, _) = dropped("int32"), dropped("int64")
    assert_equal(found, expected)
    assert stream.dtype == paddle.int64 and stream.tolist() == [7, 2]


def test_what_changes_nothing_here(qkv) -> None:
    documents = paddle.to_tensor(np.repeat([30, 70], [30, 40]).astype(np.int32).reshape(1, 1, 70, 1).repeat(2, axis=0))
    expected = flashmask_attention(*qkv, documents, causal=True)
    for same in ({"use_varlen": True}, {"group": None}, {"group": SimpleNamespace(nranks=1)}):
        assert_equal(flashmask_attention(*qkv, documents, causal=True, **same), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"startend_row_indices": paddle.zeros([2, 1, 70, 1], "int64")},
        {"startend_row_indices": paddle.zeros([2, 70, 1], "int32")},
        {"startend_row_indices": paddle.zeros([1, 1, 70, 1], "int32")},
        {"startend_row_indices": paddle.zeros([2, 1, 69, 1], "int32")},
        {"startend_row_indices": paddle.zeros([2, 3, 70, 1], "int32")},
        {"block_mask": paddle.zeros([2, 1, 1, 1], "bool")},
        {"block_mask": paddle.zeros([1, 1, 1, 1], "int32")},
        {"block_mask": paddle.zeros([2, 2, 1, 1], "int32")},
        {"block_mask": paddle.zeros([2, 1, 2, 1], "int32")},
    ],
)
def test_errors_of_masks_are_assertion_errors_as_in_paddle(qkv, changes: dict) -> None:
    arguments = {"startend_row_indices": paddle.zeros([2, 1, 70, 1], "int32"), **changes}
    with pytest.raises(AssertionError) as ours:
        flashmask_attention(*qkv, causal=True, **arguments)
    assert isinstance(ours.value, (TypeError, ValueError))
    with pytest.raises(AssertionError):  # checked before Paddle looks for a kernel
        paddle.nn.functional.flashmask_attention(*qkv, causal=True, **arguments)


@pytest.mark.parametrize("causal", [False, True])
def test_a_wrong_number_of_bounds_is_a_value_error_as_in_paddle(qkv, causal: bool) -> None:
    columns = paddle.zeros([2, 1, 70, 3], "int32")
    for attention in (flashmask_attention, paddle.nn.functional.flashmask_attention):
        with pytest.raises(ValueError) as error:
            attention(*qkv, columns, causal=causal)
        assert not isinstance(error.value, AssertionError)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("heads", [(0, 2), (0, 0), (4, 2)])
@pytest.mark.parametrize("head_dim_v", [0, 8])
def test_sizes_of_zero(dtype: str, heads: tuple[int, int], head_dim_v: int) -> None:
    heads_q, heads_kv = heads
    query, key = randn(2, 6, heads_q, 16, dtype=dtype), randn(2, 7, heads_kv, 16, dtype=dtype)
    value = randn(2, 7, heads_kv, head_dim_v, dtype=dtype)
    columns = paddle.full([2, 1, 7, 1], 5, "int32")
    sink = randn(heads_q)
    out, lse = flashmask_attention(
        query, key, value, columns, causal=True, learnable_sink=sink, return_softmax_lse=True
    )
    assert out.shape == [2, 6, heads_q, head_dim_v] and out.dtype == query.dtype
    assert lse.shape == [2, heads_q, 6]
    gradients = paddle.grad([out, lse], [query, key, value])
    assert [g.shape for g in gradients] == [query.shape, key.shape, value.shape]
    if heads_q > 0:  # lse and its gradients do not depend on the values
        filled = flashmask_attention(
            query,
            key,
            randn(2, 7, heads_kv, 8, dtype=dtype),
            columns,
            causal=True,
            learnable_sink=sink,
            return_softmax_lse=True,
        )[1]
        assert_equal(lse, filled)
        if head_dim_v == 0:
            for found, expected in zip(gradients, paddle.grad([filled], [query, key]), strict=False):
                assert_equal(found.astype("float32"), expected.astype("float32"))
                assert float(found.astype("float32").abs().sum()) > 0


@pytest.mark.parametrize(("rows", "padded"), [(70, 128), (128, 128), (129, 256), (1, 128)])
def test_padded_lse(rows: int, padded: int) -> None:
    lse = paddle.randn([2, 3, rows])
    lse[0, 1, 0] = -np.inf
    lse.stop_gradient = False
    found = pad_lse(lse)
    assert found.shape == [2, 3, padded] and found.dtype == paddle.float32
    seen = ~np.isinf(lse.numpy())
    np.testing.assert_array_equal(found.numpy()[:, :, :rows][seen], lse.numpy()[seen])
    assert np.isposinf(found.numpy()[:, :, :rows][~seen]).all() and np.isposinf(found.numpy()[:, :, rows:]).all()
    found[:, :, :rows].sum().backward()
    np.testing.assert_array_equal(lse.grad.numpy(), seen)
