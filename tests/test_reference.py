"""Dense reference against its definition element by element, published examples, and finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import paddle
import pytest
from support import mask_samples
from support.compare import assert_same_bits
from support.dense import dense_attention
from support.problem import Problem
from support.specification import dropout_keep, philox4x32, visible

from paddle_flashmask.reference import flashmask_attention


def sees(columns, causal, window, blocks, seqlen_q, seqlen_k, row, key) -> bool:
    """Visibility of one pair, directly from the definition."""
    diagonal = row + seqlen_k - seqlen_q
    if causal and key > diagonal:
        return False
    if window[0] >= 0 and key < diagonal - window[0]:
        return False
    if window[1] >= 0 and key > diagonal + window[1]:
        return False
    if blocks is not None and blocks[row // 128, key // 128] == 0:
        return False
    if columns is None:
        return True
    values = [int(v) for v in columns[key]]
    if causal:
        intervals = [(values[0], seqlen_q if len(values) == 1 else values[1])]
    else:
        intervals = [(values[0], seqlen_q), (0, values[1])] if len(values) == 2 else [values[:2], values[2:]]
    return not any(start <= row < end for start, end in intervals)


@pytest.mark.parametrize("kind", mask_samples.kinds())
@pytest.mark.parametrize("window", [(-1, -1), (2, 1), (0, -1), (-1, 0)])
def test_visible_is_the_definition(kind: str, window: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    for seqlen_q, seqlen_k in ((1, 1), (6, 6), (4, 9), (9, 4)):
        columns, causal = mask_samples.sample_mask(kind, rng, 2, 3, seqlen_q, seqlen_k)
        dense = visible(columns, causal, window, None, seqlen_q, seqlen_k)
        for b, h, i, j in np.ndindex(dense.shape):
            own = None if columns is None else columns[b, h]
            assert dense[b, h, i, j] == sees(own, causal, window, None, seqlen_q, seqlen_k, i, j), (b, h, i, j)


def test_block_mask_has_blocks_of_128() -> None:
    blocks = np.array([[[[1, 0, 1], [0, 1, 7]]]], dtype=np.int32)
    dense = visible(None, False, (-1, -1), blocks, 130, 257)[0, 0]
    for i, j in itertools.product((0, 127, 128, 129), (0, 127, 128, 255, 256)):
        assert dense[i, j] == (blocks[0, 0, i // 128, j // 128] != 0)


@pytest.mark.parametrize(
    ("columns", "causal", "rows"),
    [
        # Examples of Figure 1 of the FlashMask paper (arXiv 2410.01359) with ten tokens.
        ([[4], [4], [4], [4], [7], [7], [7], [10], [10], [10]], True, ["1", "11", "111", "1111", "....1", "....11"]),
        ([[3], [4], [5], [6], [7], [8], [9], [10], [10], [10]], True, ["1", "11", "111", ".111", "..111", "...111"]),
        ([[10, 0]] * 5 + [[10, 5], [10, 6], [10, 7], [10, 8], [10, 9]], False, ["11111"] * 5 + ["111111", "1111111"]),
        (
            [[4, 0]] * 4 + [[7, 4]] * 3 + [[10, 7]] * 3,
            False,
            ["1111"] * 4 + ["....111"] * 3 + [".......111"] * 3,
        ),
    ],
    ids=["causal document", "sliding window", "prefix LM", "document"],
)
def test_visible_gives_the_pictures_of_the_paper(columns, causal, rows) -> None:
    dense = visible(np.array(columns, dtype=np.int32)[None, None], causal, (-1, -1), None, 10, 10)[0, 0]
    for row, picture in zip(dense, rows, strict=False):
        assert "".join(".1"[int(x)] for x in row).rstrip(".") == picture


def test_wrong_number_of_bounds_is_refused() -> None:
    for n, causal in ((4, True), (1, False), (3, True), (3, False)):
        with pytest.raises(ValueError, match=f"{n} bounds per key"):
            visible(np.zeros((1, 1, 4, n), np.int32), causal, (-1, -1), None, 4, 4)


def test_philox_known_answers() -> None:
    ones = 0xFFFFFFFF
    for counter, key, expected in (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ):
        assert tuple(int(word) for word in philox4x32(counter, key)) == expected


def test_dropout_stream_is_frozen() -> None:
    """The stream must not change, or resumed training runs would."""
    kept = dropout_keep(0.5, 0x0123456789ABCDEF, 0x0000000780000001, batch=2, heads_q=3, seqlen_q=18, seqlen_k=36)[1, 2]
    assert ["".join("01"[int(x)] for x in row) for row in kept] == FROZEN_KEEPS


FROZEN_KEEPS = [
    "111111010101101011010001011010111111",
    "101011001001100111100010000001111110",
    "100111001000111010100010101001111101",
    "100000010010100101011000110000010011",
    "010110100110110001111000001100100110",
    "111100111101100010111000111100110110",
    "111011010111101100100110011100010010",
    "000010011011111001000000110100000000",
    "100101000111010101000000010110000110",
    "101111100011010000111111001010011010",
    "101001110110101011011001101011111101",
    "100110011111010011110110000110111110",
    "101010101111010010111111011101100011",
    "011100101111011111101000011101101110",
    "111000101011100100100110100011100010",
    "000000101011110001110100011001001011",
    "110101111001011000111010000001101011",
    "010001100010010001000110101100110000",
]


def paddle_result(problem: Problem) -> dict[str, np.ndarray]:
    """Values and gradients of the reference for a problem, in float64."""
    tensors = {name: paddle.to_tensor(x.astype(np.float64)) for name, x in problem.inputs.items()}
    sources = ["query", "key", "value"] + (["sink"] if problem.sink else [])
    for name in sources:
        tensors[name].stop_gradient = False
    out, lse = flashmask_attention(
        tensors["query"],
        tensors["key"],
        tensors["value"],
        None if problem.startend is None else paddle.to_tensor(problem.startend),
        causal=problem.causal,
        window_size=problem.window,
        block_mask=None if problem.block_mask is None else paddle.to_tensor(problem.block_mask),
        softmax_scale=problem.scale,
        dropout=problem.dropout,
        fixed_seed_offset=paddle.to_tensor(np.array([problem.seed, problem.offset], dtype=np.int64)),
        learnable_sink=tensors.get("sink"),
        return_softmax_lse=True,
    )
    loss = (out * tensors["dout"]).sum()
    if problem.dlse:
        finite = paddle.isfinite(lse)
        loss = loss + (paddle.where(finite, lse, paddle.zeros_like(lse)) * tensors["dlse"]).sum()
    loss.backward()
    gradients = {f"d{name}": tensors[name].grad.numpy() for name in sources}
    return {"out": out.numpy(), "lse": lse.numpy(), **gradients}


FEATURES = {
    "plain": {},
    "grouped heads": {"heads_q": 4, "heads_kv": 2, "heads_mask": 4},
    "one key head": {"heads_q": 3, "heads_kv": 1, "heads_mask": 1},
    "sink": {"sink": True},
    "lse gradient": {"dlse": True, "sink": True},
    "dropout": {"dropout": 0.3},
    "window": {"window": (3, 2)},
    "value dim": {"head_dim": 5, "head_dim_v": 9, "softmax_scale": 0.7},
    "everything": {
        "heads_q": 4,
        "heads_kv": 2,
        "heads_mask": 2,
        "sink": True,
        "dlse": True,
        "dropout": 0.2,
        "window": (9, 4),
        "head_dim_v": 3,
    },
}


@pytest.mark.parametrize("kind", mask_samples.kinds())
@pytest.mark.parametrize("feature", FEATURES)
def test_paddle_and_numpy_agree_in_float64(kind: str, feature: str) -> None:
    rng = np.random.default_rng(11)
    for seqlen_q, seqlen_k in ((7, 7), (5, 12), (12, 5)):
        problem = Problem(batch=2, seqlen_q=seqlen_q, seqlen_k=seqlen_k, **FEATURES[feature])
        problem.startend, problem.causal = mask_samples.sample_mask(
            kind, rng, problem.batch, problem.heads_mask, seqlen_q, seqlen_k
        )
        truth = dense_attention(problem, "float64")
        for name, result in paddle_result(problem).items():
            np.testing.assert_allclose(result, truth[name], rtol=1e-11, atol=1e-11, err_msg=f"{name} {problem}")


def test_rows_without_keys() -> None:
    columns = np.zeros((1, 1, 6, 1), dtype=np.int32)
    problem = Problem(seqlen_q=6, seqlen_k=6, startend=columns, causal=True, dlse=True)
    result = paddle_result(problem)
    assert (result["lse"] == -np.inf).all()
    for name in ("out", "dquery", "dkey", "dvalue"):
        assert (result[name] == 0).all(), name
    problem = Problem(seqlen_q=6, seqlen_k=6, startend=columns, causal=True, sink=True)
    result = paddle_result(problem)
    assert (result["out"] == 0).all()
    assert (result["lse"] == problem.inputs["sink"][None, :, None]).all()


def test_gradients_are_finite_differences() -> None:
    """Finite differences of the forward pass check the backward formulas, which NumPy and Paddle share."""
    rng = np.random.default_rng(3)
    problem = Problem(seqlen_q=5, seqlen_k=7, heads_q=2, heads_kv=1, head_dim=3, head_dim_v=4, sink=True, dlse=True)
    problem.dropout = 0.25
    problem.startend, problem.causal = mask_samples.sample_mask("causal_document", rng, 1, 1, 5, 7)
    problem.startend = np.ascontiguousarray(problem.startend)
    truth = dense_attention(problem, "float64")
    inputs = {name: x.astype(np.float64) for name, x in problem.inputs.items()}

    def loss(changed: dict[str, np.ndarray]) -> float:
        problem.__dict__["inputs"] = changed
        result = dense_attention(problem, "float64")
        lse = np.where(np.isfinite(result["lse"]), result["lse"], 0.0)
        return float((result["out"] * inputs["dout"]).sum() + (lse * inputs["dlse"]).sum())

    step = 1e-6
    for name, gradient in (("query", "dquery"), ("key", "dkey"), ("value", "dvalue"), ("sink", "dsink")):
        for index in np.ndindex(inputs[name].shape):
            ends = []
            for sign in (1, -1):
                moved = inputs[name].copy()
                moved[index] += sign * step
                ends.append(loss({**inputs, name: moved}))
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(truth[gradient][index], abs=1e-7), (name, index)


def test_sixteen_bit_inputs_give_sixteen_bit_outputs() -> None:
    for dtype in ("bfloat16", "float16"):
        query = paddle.randn([1, 5, 2, 4]).astype(dtype)
        query.stop_gradient = False
        out, lse = flashmask_attention(query, query, query, causal=True, return_softmax_lse=True)
        out.sum().backward()
        assert out.dtype == query.dtype and query.grad.dtype == query.dtype and lse.dtype == paddle.float32


def test_seed_and_offset_repeat_the_dropout() -> None:
    query = paddle.randn([1, 40, 1, 4])
    paddle.seed(1)
    first, seed_offset = flashmask_attention(query, query, query, dropout=0.5, return_seed_offset=True)
    again = flashmask_attention(query, query, query, dropout=0.5, fixed_seed_offset=seed_offset)
    other = flashmask_attention(query, query, query, dropout=0.5)
    assert_same_bits({"out": first.numpy()}, {"out": again.numpy()}, "with the same seed and offset")
    assert not np.array_equal(first.numpy(), other.numpy())
    evaluated = flashmask_attention(query, query, query, dropout=0.5, training=False)
    plain = flashmask_attention(query, query, query)
    assert_same_bits({"out": evaluated.numpy()}, {"out": plain.numpy()}, "in evaluation")
