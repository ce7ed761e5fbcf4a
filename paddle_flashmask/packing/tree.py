"""Packing of sequences that share prefixes, as rollouts of one prompt do: every shared token is stored once.

Sequences form a prefix tree. A tree lies in its pack in depth-first order, positions are depths, and a token sees its
own path to the root (`masks.prefix_tree`, arXiv 2511.00413). A place of the tree is a token and the one that follows
it: the token before a branch has several followers, so it stands at the head of every branch, and each place has one
label. The label counts with the sum of the weights of the sequences that learn it, which makes the loss and its
gradient those of all sequences alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from paddle_flashmask.masks import _columns

from .attention import IGNORED_LABEL
from .packed import PackedRows, PackedStream, Row, RowPacker, check_choices, fits, pack_all, tokens_and_labels
from .packs import PackingReport, visible_pairs

_MOST_TOKENS = 2**31
_MOST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class LabelValues:
    """Numbers of each label of each sequence, N in all: a label that several sequences learn has those of each.

    places: int64 [N], the place of the label in the pack. sequences: int64 [N], the number of the sequence in the pack;
        the labels of a sequence are contiguous and in order.
    numbers: float64 [N] by name.
    """

    places: np.ndarray
    sequences: np.ndarray
    numbers: dict[str, np.ndarray]


@dataclass(frozen=True)
class TreePack:
    """Prefix trees end to end: T tokens without padding, N trees.

    input_ids, position_ids: int64 [T]; positions are the depths in the tree.
    labels: int64 [T], the token that follows if a sequence learns it, else -100.
    label_weights: float64 [T], the sum of the weights of the sequences that learn the label.
    label_counts: int64 [T], their number.
    key_ends: int32 [T], the LTS of prefix_tree: one past the last row that sees the key.
    document_lengths: int32 [N], tokens of each tree, with sum T.
    sequences: number of sequences.
    values: the `values` of the rows, None if they have none.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    label_weights: np.ndarray
    label_counts: np.ndarray
    key_ends: np.ndarray
    document_lengths: np.ndarray
    sequences: int
    values: LabelValues | None = None

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


@dataclass
class TreeReport(PackingReport):
    """`PackingReport` whose documents are sequences.

    sequence_tokens: tokens of the packed sequences, each counted in full. trees: packed trees.
    split_trees: trees that did not fit into one pack. repeated_tokens: tokens that stand in the tree once, counted
        again in every further pack that repeats them.
    """

    sequence_tokens: int = 0
    trees: int = 0
    split_trees: int = 0
    repeated_tokens: int = 0

    @property
    def sharing(self) -> float:
        """Tokens of the sequences / packed tokens: how much less is computed than without sharing."""
        return self.sequence_tokens / self.tokens if self.tokens else 1.0

    def count_pack(self, pack: TreePack) -> None:
        super().count_pack(pack)
        self.packed_rows += pack.sequences - len(pack.document_lengths)
        self.trees += len(pack.document_lengths)

    def to_dict(self) -> dict[str, int | float]:
        return {**super().to_dict(), "sharing": self.sharing}

    def __str__(self) -> str:
        text = (
            f"{super().__str__()}; {self.sequence_tokens} tokens shared in {self.trees} trees, {self.sharing:.2f} to 1"
        )
        if self.split_trees:
            text += f"; {self.split_trees} trees split, with {self.repeated_tokens} tokens repeated"
        return text


@dataclass(frozen=True)
class _Sequence:
    """input_ids, following: int64 [n], each token and the one after it (-100: unknown). learns: bool [n], with sum m.

    values: float64 [m] by name.
    """

    input_ids: np.ndarray
    following: np.ndarray
    learns: np.ndarray
    weight: float
    values: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.input_ids)

    def first(self, n: int) -> _Sequence:
        """The first n places."""
        learned = int(self.learns[:n].sum())
        values = {name: numbers[:learned] for name, numbers in self.values.items()}
        return _Sequence(self.input_ids[:n], self.following[:n], self.learns[:n], self.weight, values)

    def shared_with(self, other: _Sequence) -> int:
        """The number of leading places that both have."""
        n = min(len(self), len(other))
        differ = (self.input_ids[:n] != other.input_ids[:n]) | (self.following[:n] != other.following[:n])
        return int(differ.argmax()) if differ.any() else n

    def sort_key(self) -> bytes:
        """Bytes in the order of the places, so that sequences with a common prefix sort together."""
        return np.stack([self.input_ids, self.following], axis=1).astype(">u4").tobytes()


@dataclass
class _Tree:
    """Sequences in depth-first order, and how many places each shares with the one before it."""

    sequences: list[_Sequence] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    length: int = 0

    def __len__(self) -> int:
        return self.length

    def add(self, sequence: _Sequence, shared: int) -> None:
        self.sequences.append(sequence)
        self.shared.append(shared)
        self.length += len(sequence) - shared


@dataclass(frozen=True)
class _TreeRows(RowPacker):
    report_type = TreeReport
    too_long: str
    share_prefixes: bool

    def document(self, row: Row, report: TreeReport) -> _Sequence | None:
        number = report.rows
        report.rows += 1
        sequence = _read(row, number)
        whole = fits(len(sequence), number, report, self.too_long)
        if whole is None:
            return None
        if whole:
            return sequence
        report.truncated_rows += 1
        report.truncated_tokens += len(sequence) - report.max_length
        return sequence.first(report.max_length)

    def join(self, documents: list[_Sequence], report: TreeReport) -> list[_Tree]:
        """Sort the sequences into trees, in the order in which the trees begin, and split those that are too long.

        The sort compares bytes; everything else takes time linear in the tokens.
        """
        _check_names(documents)
        order = range(len(documents))
        if self.share_prefixes:
            keys = [sequence.sort_key() for sequence in documents]
            order = sorted(order, key=keys.__getitem__)
        trees: list[tuple[int, list[_Tree]]] = []  # the number of the first sequence, and the parts
        last = None
        for number in order:
            sequence = documents[number]
            shared = sequence.shared_with(last) if self.share_prefixes and last is not None else 0
            if shared == 0:
                trees.append((number, [_Tree()]))
            first, parts = trees[-1]
            trees[-1] = min(first, number), parts
            if len(parts[-1]) + len(sequence) - shared > report.max_length:
                report.split_trees += len(parts) == 1
                report.repeated_tokens += shared
                parts.append(_Tree())
                shared = 0
            parts[-1].add(sequence, shared)
            report.sequence_tokens += len(sequence)
            last = sequence
        return [part for _, parts in sorted(trees, key=lambda tree: tree[0]) for part in parts]

    def assemble(self, documents: list[_Tree]) -> TreePack:
        sequences = [sequence for tree in documents for sequence in tree.sequences]
        shared = [count for tree in documents for count in tree.shared]
        (key_ends,) = _columns.shared_prefixes([len(sequence) for sequence in sequences], shared)
        places = [slice(count, None) for count in shared]
        label_places, learners = _label_places(sequences, shared)
        weights = np.array([sequence.weight for sequence in sequences])[learners]
        counts = np.bincount(label_places, minlength=len(key_ends))
        following = np.concatenate([s.following[own] for s, own in zip(sequences, places, strict=True)])
        return TreePack(
            input_ids=np.concatenate([s.input_ids[own] for s, own in zip(sequences, places, strict=True)]),
            labels=np.where(counts > 0, following, IGNORED_LABEL),
            position_ids=np.concatenate(
                [np.arange(first, len(s), dtype=np.int64) for s, first in zip(sequences, shared, strict=True)]
            ),
            label_weights=np.bincount(label_places, weights, minlength=len(key_ends)),
            label_counts=counts,
            key_ends=key_ends,
            document_lengths=np.array([len(tree) for tree in documents], dtype=np.int32),
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

    rows: mappings with `input_ids` and `labels` as for `pack_sft`, and optionally `weight`, a finite number in float32
        of either sign (default 1): the factor of the sequence's loss. Rows share a place if all tokens up to it and the
        one after it are equal, whether they learn it or not. Their order in the data does not matter. For losses that
        are no weighted sum, rows may have `values`: a mapping from names, the same in all rows, to a finite number or
        to one for each token, of which those at labels are kept (`TreePack.values`).
    order, too_long, seed: as for `pack_sft`, of sequences that are too long by themselves. A tree that is too long is
        split between sequences; each further part repeats the prefix that it shares, which the report counts.
    share_prefixes: False makes every sequence a tree of its own.

    Returns packs with `label_weights` and `label_counts`. The sum of label_weights * the negative log-likelihood of
    the labels over all packs is the weighted sum of the losses of all sequences, and so is its gradient.

    Raises ValueError for a row that lacks a key or tokens, whose lengths differ, or with a token, weight or value out
    of range, for rows with other values than the first, and for an unknown order or rule.
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

    rows: re-iterable if the stream is read more than once.
    """
    check_choices(max_length, order, too_long)
    return PackedStream(rows, _TreeRows(too_long, share_prefixes), max_length, order, seed, buffer_rows)


def _read(row: Row, number: int) -> _Sequence:
    input_ids, labels = tokens_and_labels(row, number)
    learns = labels != IGNORED_LABEL
    for name, tokens in (("input_ids", input_ids), ("labels", labels[learns])):
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < _MOST_TOKENS):
            raise ValueError(
                f"row {number}: {name} must lie in [0, 2^31) (labels also -100); got {tokens.min()} to {tokens.max()}"
            )
    weight = float(row.get("weight", 1.0))
    if not abs(weight) <= _MOST_FLOAT32:
        raise ValueError(f"row {number}: weight must be finite in float32; got {weight}")
    following = np.where(learns, labels, np.append(input_ids[1:], IGNORED_LABEL))
    return _Sequence(input_ids, following, learns, weight, _read_values(row, number, learns))


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


def _check_names(sequences: list[_Sequence]) -> None:
    """Raise ValueError unless all sequences have values of the same names."""
    for sequence in sequences:
        if sequence.values.keys() != sequences[0].values.keys():
            raise ValueError(
                "all rows must have values of the same names; "
                f"got {list(sequences[0].values)} and {list(sequence.values)}"
            )


def _label_places(sequences: list[_Sequence], shared: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The place of each label of each sequence, and the number of the sequence, int64 [N] each."""
    path = np.empty(max(map(len, sequences)), dtype=np.int64)  # places of the tokens of the last sequence
    places, place = [], 0
    for sequence, prefix in zip(sequences, shared, strict=True):
        length = len(sequence)
        path[prefix:length] = np.arange(place, place + length - prefix)
        place += length - prefix
        places.append(path[:length][sequence.learns])
    return np.concatenate(places), np.repeat(np.arange(len(places)), [len(learned) for learned in places])


def _joined_values(sequences: list[_Sequence], places: np.ndarray, learners: np.ndarray) -> LabelValues | None:
    names = list(sequences[0].values)
    if not names:
        return None
    return LabelValues(
        places, learners, {name: np.concatenate([sequence.values[name] for sequence in sequences]) for name in names}
    )
