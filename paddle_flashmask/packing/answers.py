"""The share-question form of DPO, KTO and reward-model data: a question stored once, followed by its answers.

Positions of every answer continue those of the question, as if it were the only answer. The mask lets an answer see
the question and itself, but no other answer (arXiv 2410.01359, figure 1, mask 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddle_flashmask.masks import _columns

from .attention import IGNORED_LABEL
from .packed import fits
from .packs import PackingReport, visible_pairs


@dataclass(frozen=True)
class Question:
    """One document: a question and its answers.

    prompt, answers: int64 arrays of at least one token.
    repeat_last: whether the last prompt token is moved to the head of every answer. With it (log-probabilities: DPO,
        KTO) the token that predicts the first token of an answer exists once per answer, and every place of an answer
        has one label. Without it (scores: reward models) the prompt stays whole.
    desirable: the label of a KTO sample.
    """

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]
    repeat_last: bool
    desirable: bool | None = None

    @property
    def shared(self) -> int:
        """Number of tokens that all answers see."""
        return len(self.prompt) - self.repeat_last

    def __len__(self) -> int:
        return self.shared + sum(map(len, self.answers))


@dataclass(frozen=True)
class AnswerPack:
    """Questions with their answers, end to end: T tokens without padding, Q questions, A answers.

    input_ids, position_ids: int64 [T].
    labels: int64 [T], the next token inside answers and -100 elsewhere; -100 everywhere in packs for reward models,
        whose loss reads scores.
    key_ends: int32 [T], the LTS of share_question: one past the last row that sees the key, which is the end of the
        document for a question token and the end of the answer for an answer token.
    document_lengths: int32 [Q], with sum T.
    answers: int64 [A, 3]: (question, first place, one past the last place), in the given order.
    desirable: bool [Q] for KTO. The first answer of a question is its own, the second is that of the KL estimate.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    key_ends: np.ndarray
    document_lengths: np.ndarray
    answers: np.ndarray
    desirable: np.ndarray | None = None

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


def tokens_of(name: str, value: Sequence[int], number: int) -> np.ndarray:
    """Return the tokens of row `number` as int64. ValueError unless they are one-dimensional and at least one."""
    array = np.asarray(value, dtype=np.int64)
    if array.ndim != 1:
        raise ValueError(f"row {number}: {name} must be one-dimensional; got shape {list(array.shape)}")
    if len(array) == 0:
        raise ValueError(f"row {number}: {name} has no tokens")
    return array


def fit_question(
    question: Question, max_prompt_length: int, number: int, report: PackingReport, too_long: str
) -> Question | None:
    """Cut a question to report.max_length tokens, or drop it (None), as `too_long` requires.

    The cut follows PaddleNLP: first the prompt to its last max_prompt_length tokens; if that is not enough, every
    answer in proportion to its length. Every answer keeps at least one token. The report counts the lost tokens.
    """
    whole = fits(len(question), number, report, too_long)
    if whole is None or whole:
        return question if whole else None
    count = len(question.answers)
    keep = min(max_prompt_length, report.max_length - count + question.repeat_last)
    if keep < 1:
        raise ValueError(f"row {number}: {count} answers do not fit into max_length = {report.max_length}")
    short = Question(question.prompt[-keep:], question.answers, question.repeat_last, question.desirable)
    room = report.max_length - short.shared
    lengths = np.array([len(answer) for answer in question.answers])
    if lengths.sum() > room:
        kept = np.diff(np.cumsum(lengths) * room // lengths.sum(), prepend=0)
        while kept.min() < 1:  # a short answer beside a long one keeps one token
            kept[kept.argmin()] += 1
            kept[kept.argmax()] -= 1
        answers = tuple(answer[:n] for answer, n in zip(question.answers, kept, strict=True))
        short = Question(short.prompt, answers, question.repeat_last, question.desirable)
    report.truncated_rows += 1
    report.truncated_tokens += len(question) - len(short)
    return short


def assemble_questions(questions: list[Question]) -> AnswerPack:
    """Lay questions and their answers end to end in one pack."""
    ids, labels, positions, answers = [], [], [], []
    place = 0
    for number, question in enumerate(questions):
        shared = question.shared
        ids.append(question.prompt[:shared])
        labels.append(np.full(shared, IGNORED_LABEL, dtype=np.int64))
        positions.append(np.arange(shared, dtype=np.int64))
        place += shared
        for answer in question.answers:
            if question.repeat_last:
                ids.append(np.concatenate([question.prompt[-1:], answer[:-1]]))
                labels.append(answer)
            else:
                ids.append(answer)
                labels.append(np.full(len(answer), IGNORED_LABEL, dtype=np.int64))
            positions.append(np.arange(shared, shared + len(answer), dtype=np.int64))
            answers.append((number, place, place + len(answer)))
            place += len(answer)
    (key_ends,) = _columns.share_question([[q.shared, *map(len, q.answers)] for q in questions])
    marks = [question.desirable for question in questions]
    return AnswerPack(
        input_ids=np.concatenate(ids),
        labels=np.concatenate(labels),
        position_ids=np.concatenate(positions),
        key_ends=key_ends,
        document_lengths=np.array([len(question) for question in questions], dtype=np.int32),
        answers=np.array(answers, dtype=np.int64).reshape(-1, 3),
        desirable=None if None in marks else np.array(marks, dtype=bool),
    )
