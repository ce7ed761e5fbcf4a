"""Questions with answers (DPO, reward models, KTO) as prefix trees, for rows that share more than one question.

A row is a question with its answers. Each answer is a sequence with the whole question before it, and the sequences of
all rows form trees: the rounds of a conversation, of which each is a row, share the earlier rounds, and answers share
the tokens with which they begin. All answers of a row lie in one pack, because its loss compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .answers import Question
from .attention import IGNORED_LABEL
from .branching import PrefixTree, TokenSequence
from .tree_layout import TreeLayout, lay_out


@dataclass(frozen=True)
class AnswerSequence(TokenSequence):
    """A question and one of its answers, which is what the sequence learns.

    row: number of the row. answer: number among the answers of the row. desirable: the label of a KTO sample.
    """

    row: int
    answer: int
    desirable: bool | None


@dataclass(frozen=True)
class AnswerTreePack(TreeLayout):
    """Prefix trees of Q questions with A answers, which have N tokens in all.

    Labels are the next tokens inside answers and -100 elsewhere; -100 everywhere in packs for reward models.

    Attributes:
        answer_tokens: int64 [N, 2], for each token of each answer in order the place that predicts it, or in packs for
            reward models the place where it stands, and the number of the answer. Answers may share a place.
        questions: int64 [A], the question of each answer. Questions are in the order of the rows, and the answers to
            one are contiguous and in the given order.
        desirable: bool [Q] for KTO. The first answer of a question is its own, the second is that of the KL estimate.
    """

    answer_tokens: np.ndarray
    questions: np.ndarray
    desirable: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return int(self.questions[-1]) + 1

    @property
    def has_labels(self) -> bool:
        """False in packs for reward models."""
        return bool((self.labels != IGNORED_LABEL).any())

    def places_of_answers(self) -> list[np.ndarray]:
        """The places in `answer_tokens` of each answer."""
        places, answers = self.answer_tokens.T
        return np.split(places, np.flatnonzero(np.diff(answers)) + 1)

    @property
    def last_places(self) -> np.ndarray:
        """int64 [A], the place of the last token of each answer."""
        return np.array([places[-1] for places in self.places_of_answers()], dtype=np.int64)

    @property
    def learned(self) -> np.ndarray:
        """bool [T], the places that predict a token of an answer, without those that only the KL estimate reads; in
        packs for reward models the places that are scored."""
        places, answers = self.answer_tokens.T
        if not self.has_labels:
            places = self.last_places
        elif self.desirable is not None:
            places = places[answers % 2 == 0]
        learned = np.zeros(len(self), dtype=bool)
        learned[places] = True
        return learned


def sequences_of(question: Question, row: int) -> tuple[AnswerSequence, ...]:
    """The answers of a row, each with the whole question before it."""
    sequences = []
    for number, answer in enumerate(question.answers):
        tokens = np.concatenate([question.prompt, answer])
        ids = tokens[:-1] if question.repeat_last else tokens
        following = tokens[1:] if question.repeat_last else np.full_like(tokens, IGNORED_LABEL)
        learns = np.arange(len(ids)) >= question.shared
        sequences.append(AnswerSequence(ids, following, learns, 1.0, {}, row, number, question.desirable))
    return tuple(sequences)


def assemble_trees(trees: list[PrefixTree]) -> AnswerTreePack:
    """Lay trees of `AnswerSequence` end to end in one pack."""
    layout, places, learners = lay_out(trees)
    sequences = [sequence for tree in trees for sequence in tree.sequences]
    order = sorted(range(len(sequences)), key=lambda number: (sequences[number].row, sequences[number].answer))
    answers = np.argsort(order)[learners]
    by_answer = np.argsort(answers, kind="stable")
    rows, questions = np.unique([sequences[number].row for number in order], return_inverse=True)
    marks = {sequence.row: sequence.desirable for sequence in sequences}
    return AnswerTreePack(
        **layout,
        answer_tokens=np.stack([places, answers], axis=1)[by_answer],
        questions=questions,
        desirable=None if None in marks.values() else np.array([marks[row] for row in rows.tolist()], dtype=bool),
    )
