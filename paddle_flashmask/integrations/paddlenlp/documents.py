"""The documents of a pack as they were before packing, and the batches that training makes of packs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_flashmask.packing import IGNORED_LABEL, AnswerPack, AnswerTreePack, Pack, TreeLayout

from .data.packs import Packs, PackStreamDataset
from .trainer import train_sampler


@dataclass(frozen=True)
class Part:
    """A text of SFT, the prompt or one answer of a question, or a branch of a prefix tree.

    name: "document", "prompt", the role of the answer, or where the branch begins and which answers end in it.
    tokens: int64 [T], in reading order. learned: bool [T], the tokens that the loss reads: those that are predicted, or
    for reward models the one that is scored.
    """

    name: str
    tokens: np.ndarray
    learned: np.ndarray


def documents_of(pack: Pack | AnswerPack | TreeLayout) -> list[list[Part]]:
    """The parts of every document of the pack."""
    ends = np.cumsum(pack.document_lengths)
    if isinstance(pack, TreeLayout):
        return [_tree(pack, start, end) for start, end in zip(ends - pack.document_lengths, ends, strict=True)]
    if isinstance(pack, AnswerPack):
        return [_question(pack, number, int(start)) for number, start in enumerate(ends - pack.document_lengths)]
    return [[_text(pack, int(end - length), int(end))] for end, length in zip(ends, pack.document_lengths, strict=True)]


def _text(pack: Pack, start: int, end: int) -> Part:
    """A label stands at the place before its token, and the last token of a text is a label only."""
    tokens, learned = pack.input_ids[start:end], np.zeros(end - start, dtype=bool)
    learned[1:] = pack.labels[start : end - 1] != IGNORED_LABEL
    if pack.labels[end - 1] != IGNORED_LABEL:
        tokens, learned = np.append(tokens, pack.labels[end - 1]), np.append(learned, True)
    return Part("document", tokens, learned)


def _question(pack: AnswerPack, number: int, start: int) -> list[Part]:
    answers = pack.answers[pack.answers[:, 0] == number, 1:]
    prompt = pack.input_ids[start : answers[0, 0]]
    predicted = pack.labels[answers[0, 0]] != IGNORED_LABEL
    if predicted:  # the last token of the prompt is at the head of every answer
        prompt = np.append(prompt, pack.input_ids[answers[0, 0]])
    parts = [Part("prompt", prompt, np.zeros(len(prompt), dtype=bool))]
    for name, (first, last) in zip(_roles(pack, number, predicted, len(answers)), answers, strict=True):
        tokens = pack.labels[first:last] if predicted else pack.input_ids[first:last]
        learned = np.full(len(tokens), predicted and name != REFERENCE)
        learned[-1] |= not predicted
        parts.append(Part(name, tokens, learned))
    return parts


REFERENCE = "answer of another question, for the reference point"


def _roles(pack: AnswerPack | AnswerTreePack, number: int, predicted: bool, count: int) -> list[str]:
    if pack.desirable is not None:
        return ["wanted" if pack.desirable[number] else "not wanted", REFERENCE]
    if predicted:
        return ["chosen", "rejected"]
    return [f"answer of rank {rank}" for rank in range(1, count + 1)]


def _tree(pack: TreeLayout, start: int, end: int) -> list[Part]:
    """A branch begins with the last token that it shares; a label at the end of a leaf is its last token. Without
    labels, in packs for reward models, a branch begins with its first own token."""
    depths, labels = pack.position_ids[start:end], pack.labels[start:end]
    scored = isinstance(pack, AnswerTreePack) and not pack.has_labels
    ends = _ends_of_answers(pack) if isinstance(pack, AnswerTreePack) else {}
    branches = branches_of(depths)
    inner = {branch.parent for branch in branches}
    parts = []
    for number, branch in enumerate(branches):
        tokens = pack.input_ids[start + branch.start : start + branch.end]
        follows = pack.learned[start + branch.start : start + branch.end]
        head = branch.parent is not None and pack.learned[start + branches[branch.parent].end - 1]
        learned = follows if scored else np.append(head, follows[:-1])
        if number not in inner and labels[branch.end - 1] != IGNORED_LABEL:
            tokens, learned = np.append(tokens, labels[branch.end - 1]), np.append(learned, follows[-1])
        name = "shared prefix" if number in inner else "branch"
        places = range(start + branch.start, start + branch.end)
        ended = ", ".join(role for place in places for role in ends.get(place, []))
        parts.append(Part(f"{name} from token {depths[branch.start]}" + f": {ended}" * bool(ended), tokens, learned))
    return parts


def _ends_of_answers(pack: AnswerTreePack) -> dict[int, list[str]]:
    """The roles of the answers that end at a place, with the number of their question in the pack."""
    found: dict[int, list[str]] = {}
    last_places = pack.last_places.tolist()
    for question in range(pack.rows):
        answers = np.flatnonzero(pack.questions == question)
        for answer, role in zip(answers, _roles(pack, question, pack.has_labels, len(answers)), strict=True):
            found.setdefault(last_places[answer], []).append(f"{role} ({question + 1})")
    return found


@dataclass(frozen=True)
class Branch:
    """Places start..end - 1 of a tree, each the only successor of the one before it. parent: number of the branch that
    ends at the token before, None for the root."""

    start: int
    end: int
    parent: int | None


def branches_of(depths: np.ndarray) -> list[Branch]:
    """The branches of a tree in depth-first order. depths: int64 [T], those of its places, from 0."""
    parents = np.full(len(depths), -1)
    path: dict[int, int] = {}  # the place at every depth of the current path
    for place, depth in enumerate(depths.tolist()):
        parents[place] = path.get(depth - 1, -1)
        path[depth] = place
    children = np.bincount(parents[parents >= 0], minlength=len(depths))
    starts = [t for t in range(len(depths)) if t == 0 or parents[t] != t - 1 or children[t - 1] > 1]
    number_at = np.searchsorted(starts, np.arange(len(depths)), side="right") - 1
    ends = [*starts[1:], len(depths)]
    heads = (parents[start] for start in starts)
    return [
        Branch(start, end, int(number_at[head]) if head >= 0 else None)
        for start, end, head in zip(starts, ends, heads, strict=True)
    ]


def batches_of(data: Packs, split: str, training: Any) -> Iterator[list[Any]]:
    """The packs of every batch, in the order of the first epoch in one process.

    split: "train", or "dev", whose order is that of the packs. training: PaddleNLP's training arguments.
    """
    if split == "train" and not isinstance(data, PackStreamDataset):
        sampler = train_sampler(data, training)
        sampler.set_epoch(0)
        yield from ([data[index] for index in indices] for indices in sampler)
        return
    size = training.per_device_train_batch_size if split == "train" else training.per_device_eval_batch_size
    packs = iter(data.packs)
    while batch := list(itertools.islice(packs, size)):
        yield batch
