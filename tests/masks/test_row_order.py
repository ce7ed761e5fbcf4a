"""Orders of rows and nodes: of `row_order`, of `depth_first_order`, of block diffusion, and those in error messages."""

from __future__ import annotations

import re

import mask_meanings as meanings
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask import masks
from paddle_flashmask.masks import ColumnMask


def runs_of_rows(dense: np.ndarray) -> np.ndarray:
    """The number of runs of rows that see each key."""
    return (dense & ~np.vstack([np.zeros_like(dense[:1]), dense[:-1]])).sum(axis=0)


@st.composite
def shuffled_trees(draw: st.DrawFn) -> np.ndarray:
    """Draw the pairs of a tree whose tokens are in any order."""
    dense = meanings.prefix_tree(**draw(meanings.trees()))
    order = np.asarray(draw(st.permutations(range(len(dense)))), dtype=np.int64)
    return dense[order][:, order]


@given(shuffled_trees())
def test_a_tree_in_any_order_has_an_order_of_rows(dense: np.ndarray) -> None:
    order = masks.row_order(dense)
    assert sorted(order) == list(range(len(dense)))
    assert (runs_of_rows(dense[order]) <= 1).all()
    np.testing.assert_array_equal(ColumnMask.from_dense(dense[order]).to_dense()[0, 0], dense[order])


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6))
def test_without_an_order_two_keys_overlap(seed: int, rows: int, keys: int) -> None:
    """None is returned for masks with two keys whose rows are neither nested nor disjoint, and for no other mask."""
    dense = np.random.default_rng(seed).random((rows, keys)) < 0.4
    overlap = any((a & b).any() and (a & ~b).any() and (b & ~a).any() for a in dense.T for b in dense.T)
    order = masks.row_order(dense)
    if order is None:
        assert overlap
    else:
        assert (runs_of_rows(dense[order]) <= 1).all()


def test_mask_heads_share_the_order() -> None:
    tree = meanings.prefix_tree([-1, 0, 0], [2, 2, 2], 6, "hidden")
    shuffled = [0, 2, 4, 1, 3, 5]
    heads = np.stack([tree, np.eye(6, dtype=bool)])[:, shuffled]
    order = masks.row_order(heads)
    assert all((runs_of_rows(head[order]) <= 1).all() for head in heads)
    assert masks.row_order(np.stack([tree, tree[[0, 3, 1, 4, 2, 5]]])) is None


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3, 0)])
def test_empty_masks_keep_their_order(shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(masks.row_order(np.zeros(shape, dtype=bool)), range(shape[-2]))


def test_row_order_checks() -> None:
    with pytest.raises(TypeError, match="dense must be a bool array .*, got float64"):
        masks.row_order(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"dense must have shape \[Sq, Sk\] or \[Hm, Sq, Sk\], got \(2,\)"):
        masks.row_order(np.zeros(2, dtype=bool))


def test_from_dense_names_an_order_for_a_tree_by_levels() -> None:
    """Four branches from one root, their tokens level by level."""
    order = [0, *(1 + 3 * branch + level for level in range(3) for branch in range(4))]
    tree = masks.prefix_tree([-1, 0, 0, 0, 0], [1, 3, 3, 3, 3]).to_dense()[0, 0]
    by_levels = tree[order][:, order]
    with pytest.raises(ValueError, match=r"hides more than two intervals .*; with its rows in the order \[") as caught:
        ColumnMask.from_dense(by_levels)
    named = list(map(int, re.search(r"order \[(.*?)\]", str(caught.value))[1].split(", ")))
    again = ColumnMask.from_dense(by_levels[named][:, named])
    assert (again.causal, again.startend_row_indices.shape[3]) == (True, 1)


def test_from_dense_names_an_order_for_separate_copies_of_blocks() -> None:
    """Block diffusion of three documents with all noised tokens before all clean ones."""
    documents = [6, 5, 6]
    interleaved = meanings.block_diffusion(documents, 2, 34)
    places = np.argsort(masks.block_diffusion_order(documents, 2))
    separate = interleaved[places][:, places]
    with pytest.raises(ValueError, match=r"in the order \[.*, \.\.\.\]") as caught:
        ColumnMask.from_dense(separate[None, None])
    assert "masks.row_order" in str(caught.value)
    order = masks.row_order(separate)
    np.testing.assert_array_equal(ColumnMask.from_dense(separate[order]).to_dense()[0, 0], separate[order])


def test_from_dense_names_no_order_where_there_is_none() -> None:
    rows = np.arange(12)
    dense = (rows[:, None] + rows[None]) % 4 < 2
    with pytest.raises(ValueError, match="intervals of query rows$"):
        ColumnMask.from_dense(dense)


@given(st.data())
def test_block_diffusion_order_interleaves_the_copies(data: st.DataObject) -> None:
    drawn = data.draw(meanings.twice())
    documents, block, total = drawn["documents"], drawn["block"], sum(drawn["documents"])
    expected, start = [], 0
    for length in documents:
        for first in range(0, length, block):
            tokens = range(start + first, start + min(first + block, length))
            expected += [*tokens, *(total + token for token in tokens)]
        start += length
    np.testing.assert_array_equal(masks.block_diffusion_order(documents, block), expected)


@given(meanings.trees(), st.randoms())
def test_depth_first_order_of_shuffled_nodes(tree: meanings.Arguments, random) -> None:
    parents = tree["parents"]
    names = list(range(len(parents)))
    random.shuffle(names)  # node i gets the index names[i]
    shuffled = [0] * len(parents)
    for node, parent in enumerate(parents):
        shuffled[names[node]] = -1 if parent == -1 else names[parent]
    order = masks.depth_first_order(shuffled)
    assert sorted(order) == list(range(len(parents)))
    places = np.argsort(order)
    sorted_parents = [-1 if shuffled[node] == -1 else int(places[shuffled[node]]) for node in order]
    lengths = [1] * len(parents)
    mask = masks.prefix_tree(sorted_parents, lengths)
    np.testing.assert_array_equal(
        mask.to_dense()[0, 0], meanings.prefix_tree(sorted_parents, lengths, len(parents), "hidden")
    )


def test_depth_first_order_keeps_the_order_of_siblings() -> None:
    assert masks.depth_first_order([-1, 0, 0, 1, 2, 1]).tolist() == [0, 1, 3, 5, 2, 4]
    assert masks.depth_first_order([]).tolist() == []
    assert masks.depth_first_order([1, -1]).tolist() == [1, 0]


def test_deep_trees() -> None:
    """100,000 nodes in one path, which a recursion would not survive."""
    nodes = 100_000
    parents = [-1, *range(nodes - 1)]
    assert (masks.prefix_tree(parents, [1] * nodes).startend_row_indices == nodes).all()
    assert (masks.depth_first_order(parents) == np.arange(nodes)).all()
