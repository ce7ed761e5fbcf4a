"""Merging of partial results by lse."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from paddle_flashmask.distributed.merge import MergedResult, log_add_exp


@pytest.mark.parametrize("a", [-math.inf, -200.0, 0.0, 3.0, 200.0])
@pytest.mark.parametrize("b", [-math.inf, -200.0, 0.0, 3.0, 200.0])
def test_log_add_exp(a: float, b: float) -> None:
    total = log_add_exp(paddle.full([9], a), paddle.full([9], b)).numpy()  # a vector: Paddle's log(0) is finite there
    np.testing.assert_allclose(total, np.full(9, np.logaddexp(a, b), np.float32), rtol=1e-6)


def partial(rng, keys: int, seen: np.ndarray) -> tuple:
    """Scores and values of keys, and their softmax: out [1, 4, 1, 3], lse [1, 1, 4]."""
    scores, values = np.where(seen, rng.standard_normal((4, keys)), -math.inf), rng.standard_normal((keys, 3))
    with np.errstate(divide="ignore"):
        lse = np.log(np.exp(scores).sum(1))
    weights = np.exp(scores - np.where(np.isfinite(lse), lse, 0.0)[:, None])
    return scores, values, (weights @ values)[None, :, None], lse[None, None]


def test_parts_make_the_whole() -> None:
    """Row 0 sees nothing, row 1 the first part, row 2 the second, row 3 both."""
    rng = np.random.default_rng(0)
    seen = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    merged, parts = MergedResult(1, 4, 1, 3), [partial(rng, 5, seen[:, part, None]) for part in (0, 1)]
    for _, _, out, lse in parts:
        merged.add((0, 4), paddle.to_tensor(out, "float32"), paddle.to_tensor(lse, "float32"))
    scores, values = (np.concatenate([part[i] for part in parts], axis=1 - i) for i in (0, 1))
    with np.errstate(divide="ignore"):
        lse = np.log(np.exp(scores).sum(1))
    expected = np.exp(scores - np.where(np.isfinite(lse), lse, 0.0)[:, None]) @ values
    np.testing.assert_allclose(merged.out.numpy()[0, :, 0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(merged.lse.numpy()[0, 0], lse, rtol=1e-6)
    assert not merged.out[0, 0].any()

    merged.add_sink(paddle.to_tensor([0.5]))
    with_sink = np.logaddexp(lse, 0.5)
    np.testing.assert_allclose(merged.lse.numpy()[0, 0], with_sink, rtol=1e-6)
    np.testing.assert_allclose(
        merged.out.numpy()[0, :, 0], np.exp(scores - with_sink[:, None]) @ values, rtol=1e-5, atol=1e-7
    )


def test_other_rows_stay() -> None:
    merged = MergedResult(1, 4, 1, 3)
    merged.add((1, 3), paddle.ones([1, 2, 1, 3]), paddle.zeros([1, 1, 2]))
    assert merged.lse.numpy()[0, 0].tolist() == [-math.inf, 0.0, 0.0, -math.inf]
    assert merged.out[0, :, 0, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
