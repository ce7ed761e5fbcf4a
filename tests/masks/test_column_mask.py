"""ColumnMask: conversion from and to dense masks, combination, checks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask import masks
from paddle_flashmask.masks import ColumnMask


def dense_of(mask: ColumnMask) -> np.ndarray:
    """bool [B, Hm, Sq, Sk] by the definition of startend_row_indices, key by key and row by row."""
    values, rows, keys = mask.startend_row_indices, mask.seqlen_q, mask.seqlen_k
    out = np.ones((mask.batch, mask.heads, rows, keys), dtype=bool)
    for b, h, key in np.ndindex(values.shape[:3]):
        bounds = values[b, h, key].tolist()
        for row in range(rows):
            if mask.causal:
                lts, lte = bounds if len(bounds) == 2 else (bounds[0], rows)
                hidden = lts <= row < lte or key > row + keys - rows
            elif len(bounds) == 2:
                hidden = row >= bounds[0] or row < bounds[1]
            else:
                hidden = bounds[0] <= row < bounds[1] or bounds[2] <= row < bounds[3]
            out[b, h, row, key] = not hidden
    return out


FORMS = [(True, 1), (True, 2), (False, 2), (False, 4)]


@st.composite
def column_masks(draw: st.DrawFn, batch: int | None = None, heads: int | None = None, form=None) -> ColumnMask:
    rows, keys = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    causal, n = form or draw(st.sampled_from(FORMS))
    shape = (batch or draw(st.integers(1, 2)), heads or draw(st.integers(1, 2)), keys, n)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return ColumnMask(rng.integers(0, rows + 1, size=shape, dtype=np.int32), causal, rows)


@given(column_masks())
def test_to_dense_is_the_definition(mask: ColumnMask) -> None:
    np.testing.assert_array_equal(mask.to_dense(), dense_of(mask))


@given(column_masks())
def test_from_dense_finds_a_mask_as_small(mask: ColumnMask) -> None:
    again = ColumnMask.from_dense(mask.to_dense())
    np.testing.assert_array_equal(dense_of(again), dense_of(mask))
    assert again.startend_row_indices.shape[3] <= mask.startend_row_indices.shape[3]
    assert again.equivalent(mask)


def test_from_dense_of_wide_masks() -> None:
    """Masks wider than a machine word, with changes at every byte of it."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.integers(0, 51, size=(1, 2, 203, 4), dtype=np.int32), axis=-1)
    mask = ColumnMask(values, False, 50)
    again = ColumnMask.from_dense(mask.to_dense())
    np.testing.assert_array_equal(dense_of(again), dense_of(mask))


@pytest.mark.parametrize(
    ("mask", "causal", "n"),
    [
        (masks.causal(8), True, 1),
        (masks.causal_document([3, 5]), True, 1),
        (masks.full(8), False, 2),
        (masks.document([3, 5]), False, 2),
        (masks.causal_blockwise([3, 2, 3]), True, 2),
        (masks.qk_sparse(8, [(2, 3)]), False, 2),
        (masks.global_sliding_window(12, 2, 1), False, 4),
    ],
)
def test_from_dense_chooses_the_smallest_form(mask: ColumnMask, causal: bool, n: int) -> None:
    again = ColumnMask.from_dense(mask.to_dense())
    assert (again.causal, again.startend_row_indices.shape[3]) == (causal, n)
    assert again.equivalent(mask)


def test_from_dense_takes_two_to_four_dimensions() -> None:
    dense = masks.document([2, 3]).to_dense()
    assert ColumnMask.from_dense(dense[0, 0]) == ColumnMask.from_dense(dense[0]) == ColumnMask.from_dense(dense)
    assert ColumnMask.from_dense(np.repeat(dense[0], 3, axis=0)).startend_row_indices.shape[:3] == (3, 1, 5)


def test_from_dense_takes_any_strides() -> None:
    dense = masks.sliding_window(9, 4).to_dense()[0, 0]
    for view in (dense.T, dense[::2, ::2], np.asfortranarray(dense)):
        np.testing.assert_array_equal(ColumnMask.from_dense(view).to_dense()[0, 0], view)


def runs_of_hidden_rows(column: np.ndarray) -> int:
    hidden = np.concatenate([[False], ~column])
    return int((hidden[1:] & ~hidden[:-1]).sum())


@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 20), st.floats(0.5, 0.95))
def test_from_dense_names_the_first_offending_column(seed: int, rows: int, keys: int, density: float) -> None:
    dense = np.random.default_rng(seed).random((2, 2, rows, keys)) < density
    offending = [
        place for place in np.ndindex(2, 2, keys) if runs_of_hidden_rows(dense[place[0], place[1], :, place[2]]) > 2
    ]
    if not offending:
        np.testing.assert_array_equal(ColumnMask.from_dense(dense).to_dense(), dense)
        return
    b, h, key = offending[0]
    with pytest.raises(ValueError, match=f"batch {b}, head {h}, key column {key} hides more than two intervals"):
        ColumnMask.from_dense(dense)


@pytest.mark.parametrize(
    ("dense", "error", "message"),
    [
        (np.ones((3, 3)), TypeError, "bool array .*got float64"),
        (np.ones(3, dtype=bool), ValueError, r"got \(3,\)"),
        (np.ones((1, 1, 1, 3, 3), dtype=bool), ValueError, r"got \(1, 1, 1, 3, 3\)"),
    ],
)
def test_from_dense_checks(dense: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ColumnMask.from_dense(dense)


@given(column_masks(batch=1, heads=1), st.sampled_from(FORMS), st.integers(0, 2**32))
def test_and_is_the_intersection(left: ColumnMask, form: tuple[bool, int], seed: int) -> None:
    shape = (2, 1, left.seqlen_k, form[1])
    values = np.random.default_rng(seed).integers(0, left.seqlen_q + 1, size=shape, dtype=np.int32)
    right = ColumnMask(values, form[0], left.seqlen_q)
    both = dense_of(left) & dense_of(right)
    offending = [
        place for place in np.ndindex(2, left.seqlen_k) if runs_of_hidden_rows(both[place[0], 0, :, place[1]]) > 2
    ]
    if offending:
        b, key = offending[0]
        with pytest.raises(ValueError, match=f"cannot be combined: batch {b}, head 0, key column {key} "):
            _ = left & right
    else:
        combined = left & right
        np.testing.assert_array_equal(combined.to_dense(), both)
        assert combined == ColumnMask.from_dense(both)


def test_and_broadcasts_heads() -> None:
    heads = masks.random_eviction(10, 5, heads=3)
    rows = masks.causal_document([[4, 6], [10]])
    both = rows & heads
    assert both.startend_row_indices.shape == (2, 3, 10, 1)
    np.testing.assert_array_equal(both.to_dense(), rows.to_dense() & heads.to_dense())


def test_and_checks() -> None:
    with pytest.raises(ValueError, match="same lengths, got 4 x 4 and 5 x 5"):
        _ = masks.causal(4) & masks.causal(5)
    with pytest.raises(ValueError, match=r"same batch and heads or 1, got \(2, 1\) and \(3, 1\)"):
        _ = masks.causal(4).expand(2) & masks.causal(4).expand(3)
    with pytest.raises(TypeError):
        _ = masks.causal(4) & True


def test_expand() -> None:
    mask = masks.causal_document([[4, 3], [5, 2]]).expand(2, heads=3)
    assert mask.startend_row_indices.shape == (2, 3, 7, 1)
    assert mask.startend_row_indices.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(mask.to_dense()[1, 2], masks.causal_document([5, 2]).to_dense()[0, 0])
    with pytest.raises(ValueError, match=r"cannot expand batch and heads \(2, 3\) to \(3, 3\)"):
        mask.expand(3, heads=3)


def test_numpy_scalars_become_plain_ones() -> None:
    mask = ColumnMask(int32(1, 1, 4, 1), np.bool_(True), np.int64(4))
    assert mask.causal is True
    assert type(mask.seqlen_q) is int


def int32(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.int32)


@pytest.mark.parametrize(
    ("values", "causal", "seqlen_q", "error", "message"),
    [
        ([[1]], True, 4, TypeError, "numpy array, got list"),
        (np.zeros((1, 1, 4, 1)), True, 4, TypeError, "int32, got float64"),
        (np.zeros((1, 1, 4, 1), dtype=np.int64), True, 4, TypeError, "int32, got int64"),
        (int32(4, 1), True, 4, ValueError, r"\[B, Hm, Sk, n\], got \(4, 1\)"),
        (int32(1, 1, 4, 4), True, 4, ValueError, "n must be 1 or 2"),
        (int32(1, 1, 4, 1), False, 4, ValueError, "n must be 2 or 4"),
        (int32(1, 1, 4, 3), False, 4, ValueError, "n must be 2 or 4"),
        (int32(1, 1, 4, 1), 1, 4, TypeError, "causal must be a bool, got 1"),
        (int32(1, 1, 4, 1), True, -1, ValueError, "seqlen_q must be at least 0"),
        (int32(1, 1, 4, 1), True, 4.0, TypeError, "seqlen_q must be an integer, got 4.0"),
        (int32(1, 1, 4, 1) + np.int32(5), True, 4, ValueError, r"\[0, seqlen_q=4\], got 5 at \[0, 0, 0, 0\]"),
        (int32(1, 1, 4, 1) - np.int32(1), True, 4, ValueError, r"\[0, seqlen_q=4\], got -1 at"),
    ],
)
def test_validate(values: object, causal: object, seqlen_q: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ColumnMask(values, causal, seqlen_q)


def test_validate_after_a_change_in_place() -> None:
    mask = masks.causal(4)
    mask.validate()
    mask.startend_row_indices[0, 0, 2, 0] = 9
    with pytest.raises(ValueError, match=r"got 9 at \[0, 0, 2, 0\]"):
        mask.validate()


def test_equality() -> None:
    assert masks.causal(4) == masks.causal(4)
    assert masks.causal(4) != masks.causal(5)
    assert masks.causal(4) != masks.sliding_window(4, 1)
    assert masks.causal(4) != "causal"
    assert masks.causal(4) != masks.prefix_lm_causal(4, 0)
    assert masks.causal(4).equivalent(masks.prefix_lm_causal(4, 0))
    assert not masks.causal(4).equivalent(masks.full(4))
    with pytest.raises(TypeError, match="other must be a ColumnMask, got int"):
        masks.causal(4).equivalent(3)
    with pytest.raises(TypeError, match="unhashable"):
        hash(masks.causal(4))


def test_repr() -> None:
    assert repr(masks.document([2, 3])) == "ColumnMask(B=1, Hm=1, Sq=5, Sk=5, causal=False, values=(LTS, UTE))"


def test_numpy_alone_is_imported() -> None:
    program = (
        "import sys; from paddle_flashmask import masks; masks.document([2, 3]).statistics(); "
        "sys.exit(' '.join({'paddle', 'paddlenlp', 'torch', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_to_paddle() -> None:
    import paddle

    mask = masks.document([[2, 3], [4, 1]])
    tensor = mask.to_paddle()
    assert tensor.dtype == paddle.int32
    np.testing.assert_array_equal(tensor.numpy(), mask.startend_row_indices)
