"""Where the documents of a batch lie, and who may see whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_flashmask.packing import AnswerPack

Documents = Sequence[int | Sequence[int]]
"""The documents of one batch row in order: the length of a text, or [shared, answer, answer, ...], the lengths of a
question and of its answers, as `masks.share_question` takes them."""


@dataclass(frozen=True)
class Segment:
    """Tokens with the same permissions: a text, the shared part of a question, one answer, or the padding of a row.

    row: of the batch. start, end: places. document: its number in the batch. answer: number of the answer, -1 for
    other segments.
    """

    row: int
    start: int
    end: int
    document: int
    answer: int = -1
    padding: bool = False

    def __len__(self) -> int:
        return self.end - self.start


def segments_of(documents: Sequence[Documents], size: int) -> list[Segment]:
    """All segments of a batch. documents: those of every batch row. size: places of a row.

    Raises ValueError where a length is negative, or documents are longer than a row.
    """
    found: list[Segment] = []
    number = 0
    for row, lengths in enumerate(documents):
        place = 0
        for entry in lengths:
            shared, *answers = [entry] if isinstance(entry, (int, np.integer)) else entry
            for answer, length in enumerate((shared, *answers), start=-1):
                if length < 0:
                    raise ValueError(f"documents of batch row {row}: a length is {length}")
                found.append(Segment(row, place, place + int(length), number, answer))
                place += int(length)
            number += 1
        if place > size:
            raise ValueError(f"documents of batch row {row} have {place} tokens, the row has {size} places")
        found.append(Segment(row, place, size, number, padding=True))
        number += 1
    return [segment for segment in found if len(segment)]


def documents_in(pack: Any) -> Documents:
    """The documents of a pack of `paddle_flashmask.packing`."""
    if not isinstance(pack, AnswerPack):
        return pack.document_lengths.tolist()
    lengths = [[total] for total in pack.document_lengths.tolist()]
    for question, start, end in pack.answers.tolist():
        lengths[question].append(end - start)
        lengths[question][0] -= end - start
    return lengths


def sequences_of(segments: Iterable[Segment]) -> list[tuple[list[Segment], Segment]]:
    """Every text, and every answer behind its question, as (its segments, the one whose outputs are its own)."""
    shared = {segment.document: segment for segment in segments if segment.answer == -1 and not segment.padding}
    answered = {segment.document for segment in segments if segment.answer >= 0}
    whole = [([segment], segment) for number, segment in shared.items() if number not in answered]
    answers = [segment for segment in segments if segment.answer >= 0]
    heads = ([shared[answer.document]] if answer.document in shared else [] for answer in answers)
    return whole + [([*head, answer], answer) for head, answer in zip(heads, answers, strict=True)]


def places_of(segments: Iterable[Segment]) -> np.ndarray:
    """int64 [T, 2]: (batch row, place) of every token of the segments."""
    pairs = [(segment.row, place) for segment in segments for place in range(segment.start, segment.end)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
