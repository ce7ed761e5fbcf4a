"""Changes of tokens that must not reach the outputs of other documents, other answers, or earlier tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import paddle

from .layout import Segment, places_of
from .outputs import Batch, array, row_outputs
from .report import Check

DOCUMENTS = "other documents do not change"
BRANCHES = "question and other answers do not change"
FUTURE = "earlier tokens do not change"

Trial = tuple[list[Segment], list[Segment]]
"""Segments whose tokens are changed, and those whose outputs must stay the same bits."""


def document_trials(segments: Sequence[Segment]) -> Iterator[Trial]:
    """Trials in which every document is changed at least once while any given other one is not.

    Two numbers differ in at least one bit, so two trials per bit are enough. Padding is changed as well.
    """
    count = 1 + max(segment.document for segment in segments)
    for bit, value in _bits(count):
        changed = [segment for segment in segments if segment.document >> bit & 1 == value]
        kept = [segment for segment in segments if segment.document >> bit & 1 != value and not segment.padding]
        yield changed, kept


def branch_trials(segments: Sequence[Segment]) -> Iterator[Trial]:
    """The same for the answers of a question or the branches of a tree, at the outputs of all that is not behind them:
    what they continue, and the other branches. Branches are changed with all that continues them."""
    for level in range(1, 1 + max(segment.level for segment in segments)):
        heads = {number for number, segment in enumerate(segments) if segment.level == level}
        for bit, value in _bits(1 + max(segments[number].sibling for number in heads)):
            chosen = {number for number in heads if segments[number].sibling >> bit & 1 == value}
            documents = {segments[number].document for number in chosen}
            changed: set[int] = set()
            for number, segment in enumerate(segments):  # parents come before their branches
                if number in chosen or segment.parent in changed:
                    changed.add(number)
            kept = [s for n, s in enumerate(segments) if n not in changed and s.document in documents]
            yield [segments[number] for number in changed], kept


def future_trials(segments: Sequence[Segment]) -> Iterator[Trial]:
    """The second half of every segment is changed, the first half must not notice; level by level, because a branch
    may notice what it continues."""
    for level in range(1 + max(segment.level for segment in segments)):
        chosen = [segment for segment in segments if segment.level == level and not segment.padding]
        middles = [(segment.start + segment.end) // 2 for segment in chosen]
        late = [dataclasses.replace(s, start=middle) for s, middle in zip(chosen, middles, strict=True)]
        early = [dataclasses.replace(s, end=middle) for s, middle in zip(chosen, middles, strict=True)]
        yield late, early


def _bits(count: int) -> Iterator[tuple[int, int]]:
    yield from ((bit, value) for bit in range((max(count, 1) - 1).bit_length()) for value in (0, 1))
    if count == 1:
        yield 0, 0


def find_leaks(
    name: str, model: Any, batch: Batch, outputs: paddle.Tensor, trials: Iterable[Trial], allowed: float
) -> Check:
    """Run the trials and count the outputs that changed.

    outputs: of the unchanged batch, [B, S, V]. allowed: largest relative change of an output that does not count; 0
    counts a single bit. The check counts rows of outputs, each once per trial.
    """
    ids, generator = array(batch["input_ids"]), np.random.default_rng(0)
    checked = wrong = 0
    largest, first = 0.0, ""
    for changed, kept in trials:
        places, replaced = places_of(kept), places_of(changed)
        if not len(places) or not len(replaced):
            continue
        other = row_outputs(model, {**batch, "input_ids": _replaced(ids, replaced, generator)})
        index = paddle.to_tensor(places)
        changes = _changes(outputs.gather_nd(index), other.gather_nd(index))
        differ = ~(changes <= allowed)
        checked += len(places)
        wrong += int(differ.sum())
        largest = max(largest, float(np.nan_to_num(changes, nan=np.inf).max()))
        if differ.any() and not first:
            row, place = places[int(differ.argmax())]
            first = f", first at batch row {row}, place {place}"
    shown = f"largest change {largest:.1e}{first}" if wrong or allowed else ""
    return Check(name, checked, wrong, shown + (f", rounding up to {allowed:.0e}" if allowed else ""))


def _changes(before: paddle.Tensor, after: paddle.Tensor) -> np.ndarray:
    """float32 [T]: the length of the change of every output, relative to its own or to that of an average output, which
    is larger; 0 only where all bits are the same."""
    same = ((before == after) | (before.isnan() & after.isnan())).all(axis=-1).numpy()
    lengths = before.norm(axis=-1).numpy()
    relative = (after - before).norm(axis=-1).numpy() / np.maximum(lengths, max(float(lengths.mean()), 1e-30))
    return np.where(same, 0.0, np.maximum(relative, np.finfo(np.float32).tiny))


def _replaced(ids: np.ndarray, places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Put another token of the batch at every one of the places."""
    known = np.unique(ids)
    if len(known) == 1:
        known = np.array([known[0], known[0] + 1 if known[0] == 0 else known[0] - 1])
    replaced = ids.copy()
    rows, columns = places[:, 0], places[:, 1]
    shifts = generator.integers(1, len(known), size=len(places)) if len(known) > 2 else 1
    replaced[rows, columns] = known[(np.searchsorted(known, ids[rows, columns]) + shifts) % len(known)]
    return replaced
