"""Sorting of token sequences into prefix trees, and the split of trees that are longer than a pack."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .plan import plan_packs


@dataclass(frozen=True)
class TokenSequence:
    """n places, each a token and the one that follows it.

    input_ids, following: int64 [n]; -100 where the next token is unknown. learns: bool [n], with sum m. weight: the
    factor of the loss. values: float64 [m] by name.
    """

    input_ids: np.ndarray
    following: np.ndarray
    learns: np.ndarray
    weight: float
    values: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.input_ids)

    def first(self, n: int) -> TokenSequence:
        """The first n places."""
        learned = int(self.learns[:n].sum())
        values = {name: numbers[:learned] for name, numbers in self.values.items()}
        return TokenSequence(self.input_ids[:n], self.following[:n], self.learns[:n], self.weight, values)

    def shared_with(self, other: TokenSequence) -> int:
        """The number of leading places that both have."""
        n = min(len(self), len(other))
        differ = (self.input_ids[:n] != other.input_ids[:n]) | (self.following[:n] != other.following[:n])
        return int(differ.argmax()) if differ.any() else n

    def sort_key(self) -> bytes:
        """Bytes in the order of the places, so that sequences with a common prefix sort together."""
        return np.stack([self.input_ids, self.following], axis=1).astype(">u4").tobytes()


Unit = tuple[TokenSequence, ...]
"""Sequences that must share a pack, because one term of a loss reads all of them."""


@dataclass(frozen=True)
class PrefixTree:
    """Sequences in depth-first order, and how many places each shares with the one before it.

    A sequence that shares none begins another root: a unit may hold sequences that have nothing in common.
    """

    sequences: list[TokenSequence]
    shared: list[int]

    def __len__(self) -> int:
        return sum(map(len, self.sequences)) - sum(self.shared)


@dataclass(frozen=True)
class SplitTree:
    """A tree as parts that fit into packs. first: number of its first unit. repeated_tokens: tokens that stand in the
    tree once, counted again in every further part that repeats them."""

    first: int
    parts: list[PrefixTree]
    repeated_tokens: int = 0


def trees_of(units: Sequence[Unit], max_length: int) -> list[SplitTree]:
    """Sort units into trees, in the order in which the trees begin, and split those that are longer than max_length.

    Units share a tree if their first sequences share a place; a unit by itself is not longer than max_length. The sort
    compares bytes; everything else takes time linear in the tokens for each level at which a tree is split.
    """
    by_key = _SortedSequences(units)
    order = sorted(range(len(units)), key=lambda number: by_key.ranks[number][0])
    shared = by_key.tree(by_key.ranks[number][0] for number in order).shared
    lengths = [len(by_key.tree(by_key.ranks[number])) for number in order]
    found = []
    for parts in _split(lengths, shared, max_length):
        members = [[order[place] for place in part.members] for part in parts]
        trees = [by_key.tree(by_key.ranks_of(numbers)) for numbers in members]
        together = list(itertools.chain.from_iterable(members))
        repeated = 0
        if len(trees) > 1:
            repeated = sum(map(len, trees)) - len(by_key.tree(by_key.ranks_of(together)))
        found.append(SplitTree(min(together), trees, repeated))
    return sorted(found, key=lambda split: split.first)


class _SortedSequences:
    """The sequences of units, sorted by key. ranks: for each unit, the places of its sequences in this order."""

    def __init__(self, units: Sequence[Unit]):
        sequences = [sequence for unit in units for sequence in unit]
        owners = [number for number, unit in enumerate(units) for _ in unit]
        keys = [sequence.sort_key() for sequence in sequences]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._sequences = [sequences[number] for number in order]
        later = zip(self._sequences[1:], self._sequences, strict=False)
        self._shared = [0, *(sequence.shared_with(last) for sequence, last in later)]
        rank_of = dict(zip(order, itertools.count()))
        self.ranks: list[list[int]] = [[] for _ in units]
        for number, owner in enumerate(owners):
            self.ranks[owner].append(rank_of[number])

    def ranks_of(self, units: Iterable[int]) -> list[int]:
        return [rank for number in units for rank in self.ranks[number]]

    def tree(self, ranks: Iterable[int]) -> PrefixTree:
        """The tree of the sequences with these ranks."""
        ranks = sorted(ranks)
        shared = [
            self._shared[rank] if rank == last + 1 else self._sequences[rank].shared_with(self._sequences[last])
            for last, rank in itertools.pairwise(ranks)
        ]
        return PrefixTree([self._sequences[rank] for rank in ranks], [0, *shared] if ranks else [])


@dataclass(frozen=True)
class _Part:
    """members: places in the sorted order. length: tokens of their tree, at most."""

    members: list[int]
    length: int


def _split(lengths: Sequence[int], shared: Sequence[int], max_length: int) -> Iterator[list[_Part]]:
    """The parts of every tree. lengths: of units in sorted order. shared: places that each has in common with the last.

    Branches are joined from the leaves to the root: as long as all branches of a node fit into a pack they stay
    together, so that a tree is cut where least is shared. Otherwise they are put into as few parts as first fit
    decreasing finds, each with the path to the node once.
    """
    path: list[tuple[int, list[_Part]]] = [(0, [])]  # depth and branches of every node above the current unit
    for place, (length, depth) in enumerate(zip(lengths, [*shared, 0][1:], strict=True)):
        parts = [_Part([place], length)]
        if depth > path[-1][0]:
            path.append((depth, parts))
            continue
        path[-1][1].extend(parts)
        while path[-1][0] > depth:
            node, branches = path.pop()
            parts = _joined(branches, node, max_length)
            if path[-1][0] < depth:
                path.append((depth, parts))
            else:
                path[-1][1].extend(parts)
        if depth == 0:
            yield path[0][1]
            path = [(0, [])]


def _joined(branches: list[_Part], depth: int, max_length: int) -> list[_Part]:
    """The branches of a node, joined to parts. depth: places that all of them share."""
    own = [branch.length - depth for branch in branches]
    groups = [list(range(len(branches)))]
    if depth + sum(own) > max_length:
        groups = plan_packs([max(1, length) for length in own], max_length - depth)
    return [
        _Part(
            [place for number in group for place in branches[number].members],
            depth + sum(own[number] for number in group),
        )
        for group in groups
    ]
