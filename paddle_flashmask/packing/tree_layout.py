"""The layout of prefix trees in a pack, and the report on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_flashmask.masks import _columns

from .attention import IGNORED_LABEL
from .branching import PrefixTree, SplitTree, TokenSequence
from .counted import counted
from .packs import PackingReport, visible_pairs


@dataclass(frozen=True)
class TreeLayout:
    """Prefix trees end to end: T tokens without padding, N trees.

    Attributes:
        input_ids: int64 [T].
        labels: int64 [T], the token that follows if a sequence learns it, else -100.
        position_ids: int64 [T], the depths in the tree.
        key_ends: int32 [T], the LTS of prefix_tree: one past the last row that sees the key.
        document_lengths: int32 [N], tokens of each tree, with sum T.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    key_ends: np.ndarray
    document_lengths: np.ndarray

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    @property
    def causal(self) -> bool:
        return True

    @property
    def columns(self) -> np.ndarray:
        return self.key_ends[:, None]

    @property
    def visible_pairs(self) -> int:
        return visible_pairs(self)

    @property
    def rows(self) -> int:
        """Number of rows of the data."""
        raise NotImplementedError

    @property
    def learned(self) -> np.ndarray:
        """bool [T], the places whose outputs are learned from: that predict a label, or that are scored."""
        raise NotImplementedError


@dataclass
class TreeReport(PackingReport):
    """`PackingReport` whose documents are sequences.

    Attributes:
        sequence_tokens: tokens of the packed sequences, each counted in full, or of questions with their answers in
            share-question form.
        trees: packed trees.
        split_trees: trees that did not fit into one pack.
        repeated_tokens: tokens that stand in the tree once, counted again in every further part that repeats them.
    """

    sequence_tokens: int = 0
    trees: int = 0
    split_trees: int = 0
    repeated_tokens: int = 0

    @property
    def sharing(self) -> float:
        """Tokens of the sequences / packed tokens: how much less is computed than without sharing."""
        return self.sequence_tokens / self.tokens if self.tokens else 1.0

    def count_trees(self, trees: Sequence[SplitTree]) -> list[PrefixTree]:
        """Count the split trees, and return the parts of all trees."""
        self.split_trees += sum(len(tree.parts) > 1 for tree in trees)
        self.repeated_tokens += sum(tree.repeated_tokens for tree in trees)
        return [part for tree in trees for part in tree.parts]

    def count_pack(self, pack: TreeLayout) -> None:
        super().count_pack(pack)
        self.packed_rows += pack.rows - len(pack.document_lengths)
        self.trees += len(pack.document_lengths)

    def to_dict(self) -> dict[str, int | float]:
        return {**super().to_dict(), "sharing": self.sharing}

    def __str__(self) -> str:
        text = (
            f"{super().__str__()}; {self.sequence_tokens} tokens shared in {counted(self.trees, 'tree')}, "
            f"{self.sharing:.2f} to 1"
        )
        if self.split_trees:
            text += f"; {counted(self.split_trees, 'tree')} split, with {self.repeated_tokens} tokens repeated"
        return text


def lay_out(trees: Sequence[PrefixTree]) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The fields of `TreeLayout`, and for each label of each sequence in turn its place and the number of the sequence,
    int64 [N] each. Sequences are numbered as they stand in the trees."""
    sequences = [sequence for tree in trees for sequence in tree.sequences]
    shared = [count for tree in trees for count in tree.shared]
    (key_ends,) = _columns.shared_prefixes([len(sequence) for sequence in sequences], shared)
    own = [(sequence, slice(count, None)) for sequence, count in zip(sequences, shared, strict=True)]
    places, learners = _label_places(sequences, shared)
    following = np.concatenate([sequence.following[part] for sequence, part in own])
    positions = np.concatenate([np.arange(part.start, len(s), dtype=np.int64) for s, part in own])
    roots = np.flatnonzero(positions == 0)
    layout = {
        "input_ids": np.concatenate([sequence.input_ids[part] for sequence, part in own]),
        "labels": np.where(np.bincount(places, minlength=len(key_ends)) > 0, following, IGNORED_LABEL),
        "position_ids": positions,
        "key_ends": key_ends,
        "document_lengths": np.diff(roots, append=len(key_ends)).astype(np.int32),
    }
    return layout, places, learners


def _label_places(sequences: list[TokenSequence], shared: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The place of each label of each sequence, and the number of the sequence, int64 [N] each."""
    path = np.empty(max(map(len, sequences)), dtype=np.int64)  # places of the tokens of the last sequence
    places, place = [], 0
    for sequence, prefix in zip(sequences, shared, strict=True):
        length = len(sequence)
        path[prefix:length] = np.arange(place, place + length - prefix)
        place += length - prefix
        places.append(path[:length][sequence.learns])
    return np.concatenate(places), np.repeat(np.arange(len(places)), [len(learned) for learned in places])
