"""The share-question form of DPO, KTO and reward-model data: a question stored once, followed by its answers.

Positions of every answer continue those of the question, as if it were the only answer. The mask lets an answer see
the question and itself, but no other answer (arXiv 2410.01359, figure 1, mask 5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddle_flashmask.masks import _columns

from .attention import IGNORED_LABEL
from .packed import MOST_TOKENS, fits
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

    Attributes:
        input_ids: int64 [T].
        labels: int64 [T], the next token inside answers and -100 elsewhere; -100 everywhere in packs for reward models,
            whose loss reads scores.
        position_ids: int64 [T].
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
    """Return the tokens of row `number` as int64. ValueError unless they are one-dimensional, at least one, and ids."""
    array = np.asarray(value, dtype=np.int64)
    if array.ndim != 1:
        raise ValueError(f"row {number}: {name} must be one-dimensional; got shape {list(array.shape)}")
    if len(array) == 0:
        raise ValueError(f"row {number}: {name} has no tokens")
    if array.min() < 0 or array.max() >= MOST_TOKENS:
        raise ValueError(f"row {number}: {name} must lie in [0, 2^31); got {array.min()} to {array.max()}")
    return array


def fit_question(
    question: Question, max_prompt_length: int, number: int, report: PackingReport, too_long: str
) -> Question | None:
    """Cut a question to report.max_length tokens, or drop it (None), as `too_long` requires. The report counts it.

    The cut keeps the last max_prompt_length tokens of the prompt. If that is not enough, every answer keeps at most as
    many tokens as the others may: the largest number with which all fit, at least one.

    An answer of a DPO pair or for a reward model that is the same as a better one, before or after the cut, teaches
    nothing and is left out. A question with fewer than two answers left is dropped.
    """
    distinct = _without_equals(question)
    whole = fits(len(distinct), number, report, too_long) if _is_trainable(distinct) else True
    if whole is None:
        return None
    kept = distinct if whole else _without_equals(_cut(distinct, max_prompt_length, number, report.max_length))
    if not _is_trainable(kept):
        report.dropped_rows += 1
        report.equal_answer_rows += 1
        return None
    report.equal_answers += len(question.answers) - len(kept.answers)
    if not whole:
        report.truncated_rows += 1
        report.truncated_tokens += len(distinct) - len(kept)
    return kept


def _without_equals(question: Question) -> Question:
    """The question without answers that are the same as an earlier, better one. A KTO sample stays as it is."""
    if question.desirable is not None:
        return question
    answers = {answer.tobytes(): answer for answer in reversed(question.answers)}
    kept = tuple(answer for answer in question.answers if answers[answer.tobytes()] is answer)
    return dataclasses.replace(question, answers=kept)


def _is_trainable(question: Question) -> bool:
    return question.desirable is not None or len(question.answers) > 1


def _cut(question: Question, max_prompt_length: int, number: int, max_length: int) -> Question:
    count = len(question.answers)
    keep = min(max_prompt_length, max_length - count + question.repeat_last)
    if keep < 1:
        raise ValueError(f"row {number}: {count} answers do not fit into max_length = {max_length}")
    short = dataclasses.replace(question, prompt=question.prompt[-keep:])
    limit = _common_limit([len(answer) for answer in question.answers], max_length - short.shared)
    return dataclasses.replace(short, answers=tuple(answer[:limit] for answer in question.answers))


def _common_limit(lengths: list[int], room: int) -> int:
    """The largest number of tokens to which all answers can be cut so that they fit into `room` together."""
    left = len(lengths)
    for length in sorted(lengths):
        if length * left > room:
            return room // left
        room -= length
        left -= 1
    return max(lengths)


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
