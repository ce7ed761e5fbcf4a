"""Where the documents of a batch lie, and who may see whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_flashmask.packing import AnswerPack, TreeLayout

from ..documents import branches_of

Document = int | Sequence["Document"]
"""The length of a text, or [length, branch, ...], its length up to where it branches and the branches, each such a
document: [question, answer, answer] is a question with the lengths of its answers, as `masks.share_question` takes it.
"""


@dataclass(frozen=True)
class Segment:
    """Tokens with the same permissions: a text, a question, an answer, a branch of a tree, or the padding of a row.

    row: of the batch. start, end: places. document: its number in the batch. parent: number of the segment that it
    continues, -1 for a root. level: how many it continues. sibling: its number among the branches of its parent.
    first: tokens before it in its document. padding: whether it is the padding of its row.
    """

    row: int
    start: int
    end: int
    document: int
    parent: int = -1
    level: int = 0
    sibling: int = 0
    first: int = 0
    padding: bool = False

    def __len__(self) -> int:
        return self.end - self.start


def segments_of(documents: Sequence[Sequence[Document]], size: int) -> list[Segment]:
    """All segments of a batch, parents before their branches. documents: of every batch row. size: places of a row.

    Raises ValueError where a length is negative, or documents are longer than a row.
    """
    found: list[Segment] = []
    number = 0
    for row, entries in enumerate(documents):
        place = 0
        for entry in entries:
            waiting: list[tuple[Document, int, int]] = [(entry, -1, 0)]
            while waiting:
                node, parent, sibling = waiting.pop()
                length, *branches = [node] if isinstance(node, (int, np.integer)) else node
                if length < 0:
                    raise ValueError(f"documents of batch row {row}: a length is {length}")
                above = found[parent] if parent >= 0 else None
                level, first = (above.level + 1, above.first + len(above)) if above else (0, 0)
                waiting += [(branch, len(found), i) for i, branch in reversed(list(enumerate(branches)))]
                found.append(Segment(row, place, place + length, number, parent, level, sibling, first))
                place += length
            number += 1
        if place > size:
            raise ValueError(f"documents of batch row {row} have {place} tokens, the row has {size} places")
        found.append(Segment(row, place, size, number, padding=True))
        number += 1
    return found


def documents_in(pack: Any) -> list[Document]:
    """The documents of a pack of `paddle_flashmask.packing`."""
    if isinstance(pack, TreeLayout):
        ends = np.cumsum(pack.document_lengths)
        return [_tree(pack.position_ids[a:b]) for a, b in zip(ends - pack.document_lengths, ends, strict=True)]
    if not isinstance(pack, AnswerPack):
        return pack.document_lengths.tolist()
    lengths = [[total] for total in pack.document_lengths.tolist()]
    for question, start, end in pack.answers.tolist():
        lengths[question].append(end - start)
        lengths[question][0] -= end - start
    return lengths


def _tree(depths: np.ndarray) -> Document:
    nodes: list[list[Any]] = []
    for branch in branches_of(depths):
        nodes.append([branch.end - branch.start])
        if branch.parent is not None:
            nodes[branch.parent].append(nodes[-1])
    return nodes[0]


@dataclass(frozen=True)
class Path:
    """A text, an answer behind its question, or a path to a leaf of a tree. segments: from the root. own: those of them
    that no earlier path has."""

    segments: tuple[Segment, ...]
    own: tuple[Segment, ...]

    @property
    def leaf(self) -> Segment:
        return self.segments[-1]


def paths_of(segments: Sequence[Segment]) -> list[Path]:
    """All paths, in the order of their leaves."""
    inner = {segment.parent for segment in segments}
    seen: set[int] = set()
    paths = []
    for leaf, segment in enumerate(segments):
        if segment.padding or leaf in inner:
            continue
        numbers, number = [], leaf
        while number >= 0:
            numbers.append(number)
            number = segments[number].parent
        path = tuple(segments[n] for n in reversed(numbers))
        paths.append(Path(path, tuple(segments[n] for n in reversed(numbers) if n not in seen)))
        seen.update(numbers)
    return [path for path in paths if any(map(len, path.segments))]


def places_of(segments: Iterable[Segment]) -> np.ndarray:
    """int64 [T, 2]: (batch row, place) of every token of the segments."""
    pairs = [(segment.row, place) for segment in segments for place in range(segment.start, segment.end)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
