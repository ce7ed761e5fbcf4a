"""Packing of sequences that share prefixes, as rollouts of one prompt do: every shared token is stored once.

Sequences form a prefix tree. A tree lies in its pack in depth-first order, positions are depths, and a token sees its
own path to the root (`masks.prefix_tree`, arXiv 2511.00413). A place of the tree is a token and the one that follows
it: the token before a branch has several followers, so it stands at the head of every branch, and each place has one
label. The label counts with the sum of the weights of the sequences that learn it, which makes the loss and its
gradient those of all sequences alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .attention import IGNORED_LABEL
from .branching import PrefixTree, TokenSequence, Unit, trees_of
from .packed import (
    MOST_TOKENS,
    PackedRows,
    PackedStream,
    Row,
    RowPacker,
    check_choices,
    fits,
    pack_all,
    tokens_and_labels,
)
from .tree_layout import TreeLayout, TreeReport, lay_out

_MOST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class LabelValues:
    """Numbers of each label of each sequence, N in all: a label that several sequences learn has those of each.

    Attributes:
        places: int64 [N], the place of the label in the pack.
        sequences: int64 [N], the number of the sequence in the pack; the labels of a sequence are contiguous and in
            order.
        numbers: float64 [N] by name.
    """

    places: np.ndarray
    sequences: np.ndarray
    numbers: dict[str, np.ndarray]


@dataclass(frozen=True)
class TreePack(TreeLayout):
    """Prefix trees of sequences with weights, T tokens.

    Attributes:
        label_weights: float64 [T], the sum of the weights of the sequences that learn the label.
        label_counts: int64 [T], their number.
        sequences: number of sequences.
        values: the `values` of the rows, None if they have none.
    """

    label_weights: np.ndarray
    label_counts: np.ndarray
    sequences: int
    values: LabelValues | None = None

    @property
    def rows(self) -> int:
        return self.sequences

    @property
    def learned(self) -> np.ndarray:
        return self.labels != IGNORED_LABEL


@dataclass(frozen=True)
class _TreeRows(RowPacker):
    report_type = TreeReport
    too_long: str
    share_prefixes: bool

    def document(self, row: Row, report: TreeReport) -> Unit | None:
        number = report.rows
        report.rows += 1
        sequence = _read(row, number)
        whole = fits(len(sequence), number, report, self.too_long)
        if whole is None:
            return None
        if whole:
            return (sequence,)
        report.truncated_rows += 1
        report.truncated_tokens += len(sequence) - report.max_length
        return (sequence.first(report.max_length),)

    def join(self, documents: list[Unit], report: TreeReport) -> list[PrefixTree]:
        sequences = [sequence for (sequence,) in documents]
        _check_names(sequences)
        report.sequence_tokens += sum(map(len, sequences))
        if not self.share_prefixes:
            return [PrefixTree([sequence], [0]) for sequence in sequences]
        return report.count_trees(trees_of(documents, report.max_length))

    def assemble(self, documents: list[PrefixTree]) -> TreePack:
        sequences = [sequence for tree in documents for sequence in tree.sequences]
        layout, label_places, learners = lay_out(documents)
        weights = np.array([sequence.weight for sequence in sequences])[learners]
        size = len(layout["input_ids"])
        return TreePack(
            **layout,
            label_weights=np.bincount(label_places, weights, minlength=size),
            label_counts=np.bincount(label_places, minlength=size),
            sequences=len(sequences),
            values=_joined_values(sequences, label_places, learners),
        )


def pack_tree(
    rows: Iterable[Row],
    max_length: int,
    *,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    share_prefixes: bool = True,
) -> PackedRows:
    """Pack sequences that share prefixes into packs of at most `max_length` tokens, with every shared token once.

    Args:
        rows: mappings with `input_ids` and `labels` as for `pack_sft`, and optionally `weight`, a finite number in
            float32 of either sign (default 1): the factor of the sequence's loss. Rows share a place if all tokens up
            to it and the one after it are equal, whether they learn it or not. Their order in the data does not matter.
            For losses that are no weighted sum, rows may have `values`: a mapping from names, the same in all rows, to
            a finite number or to one for each token, of which those at labels are kept (`TreePack.values`).
        max_length: most tokens of a pack. A tree that is too long is split between sequences; each further part repeats
            the prefix that it shares, which the report counts.
        order: as for `pack_sft`.
        too_long: as for `pack_sft`, of sequences that are too long by themselves.
        seed: as for `pack_sft`.
        share_prefixes: False makes every sequence a tree of its own.

    Returns:
        Packs with `label_weights` and `label_counts`. The sum of label_weights * the negative log-likelihood of the
        labels over all packs is the weighted sum of the losses of all sequences, and so is its gradient.

    Raises:
        ValueError: a row that lacks a key or tokens, whose lengths differ, or with a token, weight or value out of
            range; rows with other values than the first; an unknown order or rule.
    """
    check_choices(max_length, order, too_long)
    return pack_all(rows, _TreeRows(too_long, share_prefixes), max_length, order, seed)


def stream_tree(
    rows: Iterable[Row],
    max_length: int,
    *,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    share_prefixes: bool = True,
    buffer_rows: int = 500,
) -> PackedStream:
    """Pack rows as `pack_tree` does, `buffer_rows` rows at a time. Sequences share prefixes within a buffer.

    Args:
        rows: re-iterable if the stream is read more than once.
        buffer_rows: rows that are packed together. A pack never crosses a buffer.
    """
    check_choices(max_length, order, too_long)
    return PackedStream(rows, _TreeRows(too_long, share_prefixes), max_length, order, seed, buffer_rows)


def _read(row: Row, number: int) -> TokenSequence:
    input_ids, labels = tokens_and_labels(row, number)
    learns = labels != IGNORED_LABEL
    for name, tokens in (("input_ids", input_ids), ("labels", labels[learns])):
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < MOST_TOKENS):
            raise ValueError(
                f"row {number}: {name} must lie in [0, 2^31) (labels also -100); got {tokens.min()} to {tokens.max()}"
            )
    weight = row.get("weight", 1.0)
    if not isinstance(weight, (int, float, np.number)) or not abs(weight) <= _MOST_FLOAT32:
        raise ValueError(f"row {number}: weight must be a number that is finite in float32; got {weight!r:.80}")
    following = np.where(learns, labels, np.append(input_ids[1:], IGNORED_LABEL))
    return TokenSequence(input_ids, following, learns, float(weight), _read_values(row, number, learns))


def _read_values(row: Row, number: int, learns: np.ndarray) -> dict[str, np.ndarray]:
    """float64 [m] by name: the `values` of a row at its m labels."""
    values = {}
    for name, given in row.get("values", {}).items():
        numbers = np.asarray(given, dtype=np.float64)
        if numbers.shape not in ((), learns.shape):
            raise ValueError(
                f"row {number}: {name} must be a number, or one for each of the {len(learns)} tokens; "
                f"got shape {list(numbers.shape)}"
            )
        values[name] = np.broadcast_to(numbers, learns.shape)[learns]
        if not (np.abs(values[name]) <= _MOST_FLOAT32).all():
            raise ValueError(f"row {number}: {name} must be finite in float32 at every label")
    return values


def _check_names(sequences: list[TokenSequence]) -> None:
    """Raise ValueError unless all sequences have values of the same names."""
    for sequence in sequences:
        if sequence.values.keys() != sequences[0].values.keys():
            raise ValueError(
                "all rows must have values of the same names; "
                f"got {list(sequences[0].values)} and {list(sequence.values)}"
            )


def _joined_values(sequences: list[TokenSequence], places: np.ndarray, learners: np.ndarray) -> LabelValues | None:
    names = list(sequences[0].values)
    if not names:
        return None
    return LabelValues(
        places, learners, {name: np.concatenate([sequence.values[name] for sequence in sequences]) for name in names}
    )
