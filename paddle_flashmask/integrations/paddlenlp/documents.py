"""The documents of a pack as they were before packing, and the batches that training makes of packs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddle_flashmask.packing import IGNORED_LABEL, AnswerPack, Pack, TreePack

from .data.packs import Packs, PackStreamDataset
from .trainer import train_sampler


@dataclass(frozen=True)
class Part:
    """A text of SFT, a path of a prefix tree, or the prompt or one answer of a question.

    name: "document", "path", "prompt" or the role of the answer. tokens: int64 [T], in reading order. learned:
    bool [T], the tokens that the loss reads: those that are predicted, or for reward models the one that is scored.
    """

    name: str
    tokens: np.ndarray
    learned: np.ndarray


def documents_of(pack: Pack | TreePack | AnswerPack) -> list[list[Part]]:
    """The parts of every document of the pack."""
    ends = np.cumsum(pack.document_lengths)
    if isinstance(pack, AnswerPack):
        return [_question(pack, number, int(start)) for number, start in enumerate(ends - pack.document_lengths)]
    spans = [np.arange(end - length, end) for end, length in zip(ends, pack.document_lengths, strict=True)]
    if isinstance(pack, TreePack):
        return [_paths(pack, places) for places in spans]
    return [[_text("document", pack, places)] for places in spans]


def _text(name: str, pack: Pack | TreePack, places: np.ndarray) -> Part:
    """A label stands at the place before its token, and the last token of a text is a label only."""
    tokens, labels = pack.input_ids[places], pack.labels[places]
    learned = np.append(False, labels[:-1] != IGNORED_LABEL)
    if labels[-1] != IGNORED_LABEL:
        tokens, learned = np.append(tokens, labels[-1]), np.append(learned, True)
    return Part(name, tokens, learned)


def _paths(pack: TreePack, places: np.ndarray) -> list[Part]:
    """The path to every leaf: a place that no other sees. A sequence that ends before a leaf is part of its path."""
    leaves = places[pack.key_ends[places] == places + 1]
    return [_text("path", pack, places[(places <= leaf) & (pack.key_ends[places] > leaf)]) for leaf in leaves]


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


def _roles(pack: AnswerPack, number: int, predicted: bool, count: int) -> list[str]:
    if pack.desirable is not None:
        return ["wanted" if pack.desirable[number] else "not wanted", REFERENCE]
    if predicted:
        return ["chosen", "rejected"]
    return [f"answer of rank {rank}" for rank in range(1, count + 1)]


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
