from __future__ import annotations

import numpy as np

from . import _columns
from ._assemble import padded_mask
from ._inputs import Documents, Padding, document_lists, integer, is_list, lay_out, order_text, same_batch
from .column_mask import ColumnMask


def prefix_tree(
    parents: Documents, lengths: Documents, seqlen: int | None = None, *, padding: Padding = "hidden"
) -> ColumnMask:
    """Sequences that share prefixes, as rollouts of one prompt do: a shared prefix is laid out once, as a node of a
    tree, and every token sees its own path to the root (arXiv 2511.00413).

    Nodes lie end to end in depth-first order: a node follows its parent or a node below its parent. Then the queries
    that see a key are a single run, from the key to the end of the key's subtree. ``depth_first_order`` sorts the
    nodes. Attention is causal, several trees are blind to each other, and ``share_question`` is the tree of depth two.

    Args:
        parents: for each node the index of its parent, -1 for a root; or one such list per batch row.
        lengths: tokens of each node, 0 allowed, in lists of the same sizes.
        seqlen: S (default: the longest row).
        padding: tokens after the last node see nothing ("hidden") or form one more root ("document").

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: parents or lengths that are not integers, or not in a list.
        ValueError: a parent that is no node, nodes that are their own ancestors or not in depth-first order, numbers
            of parents and lengths that differ, a negative length, nodes that do not fit into ``seqlen``, or another
            ``padding``.

    Example:
        A prompt of 4 tokens with two continuations of 3, the first of which has two of 2:
        ``prefix_tree([-1, 0, 1, 1, 0], [4, 3, 2, 2, 3])``.
    """
    rows, parent_rows = document_lists("lengths", lengths), _parent_lists(parents)
    same_batch(lengths=rows, parents=parent_rows)
    if len(parent_rows) != len(rows):
        raise ValueError(f"lengths has {len(rows)} batch rows, parents has {len(parent_rows)}")
    for b, (row, parent_row) in enumerate(zip(rows, parent_rows, strict=True)):
        if len(row) != len(parent_row):
            raise ValueError(f"batch row {b} has {len(row)} nodes in lengths but {len(parent_row)} in parents")
        _check_order(parent_row, b)
    seqlen, rest = lay_out(rows, seqlen, padding)
    bounds = [
        _columns.prefix_tree(parent_row + [-1] * len(last), row + last)
        for row, parent_row, last in zip(rows, parent_rows, rest, strict=True)
    ]
    return padded_mask(bounds, causal=True, seqlen=seqlen)


def depth_first_order(parents: Documents) -> np.ndarray:
    """Order of nodes in which every node follows its parent or a node below its parent.

    Roots, and the children of a node, keep their order. Lay the nodes out as ``[nodes[i] for i in order]``; the parent
    of the node at place p is then at ``places[parents[order[p]]]`` with ``places = np.argsort(order)``.

    Args:
        parents: for each node of one sequence the index of its parent, -1 for a root; parents may follow children.

    Returns:
        int64 [nodes], the index of the node at each place.

    Raises:
        TypeError: parents that are not integers, or not in a list.
        ValueError: a parent that is no node, or nodes that are their own ancestors.
    """
    (row,) = _parent_lists([parents])
    return np.asarray(_depth_first_order(row, 0), dtype=np.int64)


def _parent_lists(parents: Documents) -> list[list[int]]:
    """Parents per batch row, each -1 or the index of a node."""
    if not is_list(parents):
        raise TypeError(f"parents must be a list of node indices or one such list per batch row, got {parents!r}")
    batched = len(parents) > 0 and all(is_list(row) for row in parents)
    rows = []
    for b, row in enumerate(parents if batched else [parents]):
        name = f"parents[{b}]" if batched else "parents"
        rows.append([integer(f"{name}[{node}]", parent, minimum=-1) for node, parent in enumerate(row)])
        for node, parent in enumerate(rows[-1]):
            if parent >= len(row):
                raise ValueError(f"{name}[{node}] must be -1 or one of {len(row)} nodes, got {parent}")
    return rows


def _check_order(parents: list[int], batch_row: int) -> None:
    path: list[int] = []
    for node, parent in enumerate(parents):
        while path and path[-1] != parent:
            path.pop()
        if parent != -1 and not path:
            order = _depth_first_order(parents, batch_row)
            raise ValueError(
                f"nodes of batch row {batch_row} must be in depth-first order: node {node} must follow its parent "
                f"{parent} or a node below it; the order {order_text(order)} would do (masks.depth_first_order)"
            )
        path.append(node)


def _depth_first_order(parents: list[int], batch_row: int) -> list[int]:
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]  # those of -1 come last
    for node, parent in enumerate(parents):
        children[parent].append(node)
    order, waiting = [], children[-1][::-1]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting.extend(reversed(children[node]))
    if len(order) < len(parents):
        node = min(set(range(len(parents))) - set(order))
        raise ValueError(f"the ancestors of node {node} of batch row {batch_row} form a circle, with no root")
    return order
