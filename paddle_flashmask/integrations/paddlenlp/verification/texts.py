"""Labels of batches decoded, beside the answers that the data files hold."""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from paddle_flashmask.packing import IGNORED_LABEL

from ..data.instructions import SFTTokens
from ..data.messages import Message
from ..data.packs import TokenRows
from ..decoding import decode
from .layout import Segment, paths_of, places_of
from .report import Check

NAME = "labels decode to the answers"
LONGEST_END = 64
"""Characters that an end token with the blanks around it may have."""


def answers_in(rows: TokenRows) -> Iterator[list[Message]]:
    """The messages of the assistant that every row of the data files may learn."""
    for row in rows.rows:
        if isinstance(rows, SFTTokens):
            yield [message for message in row.messages if message["role"] == "assistant"]
        else:
            yield row.answers


class AnswerTexts:
    """Decodes what is learned and looks it up among the answers of the files.

    Both sides pass through the tokenizer, which may change blanks and unknown characters, and lose the blanks around
    them, which chat templates trim. What is learned is an answer and an end, which is the same behind every answer and
    holds no answer of the row. The learned parts of one text belong to one row. Where rows were cut, as many answers
    may be incomplete. An answer with tool calls begins with its text and has the names of the functions, in the words
    of the template.
    """

    def __init__(self, tokenizer: Any, rows: TokenRows):
        self._tokenizer = tokenizer
        self._rows_of: dict[str, set[int]] = {}
        self._answers_of: list[list[str]] = []
        self._special = getattr(tokenizer, "all_special_tokens", [])
        self._callers: dict[tuple[str, ...], dict[str, set[int]]] = {}
        self._most = 1
        for number, answers in enumerate(answers_in(rows)):
            self._most = max(self._most, len(answers))
            texts = [self._as_decoded(answer["content"] or "") for answer in answers]
            self._answers_of.append([text for text in texts if text])
            for answer, text in zip(answers, texts, strict=True):
                calls = answer.get("tool_calls")
                known = self._callers.setdefault(_names(calls), {}) if calls else self._rows_of
                known.setdefault(text, set()).add(number)
        self._rows_of.pop("", None)
        self._sorted = sorted(self._rows_of)
        self._ends: Counter[str] = Counter()
        self._checked = self._wrong = self._beginnings = 0
        self._first = ""

    def _as_decoded(self, text: str) -> str:
        return decode(self._tokenizer, self._tokenizer(text, add_special_tokens=False)["input_ids"]).strip()

    def add(self, ids: np.ndarray, labels: np.ndarray | None, segments: Sequence[Segment]) -> None:
        """Look up a batch. ids, labels: int64 [B, S]; labels None for a reward model, whose answers are read whole."""
        for path in paths_of(segments):
            places = places_of([path.leaf] if labels is None else path.segments)
            run_of = ids if labels is None else labels
            own = run_of[places[:, 0], places[:, 1]]
            if len(path.segments) == 1 or labels is None:
                self._add_runs(_runs(own), of_one_row=len(path.segments) == 1)
            else:
                self._add_runs(self._runs_of_path(own, path.segments), of_one_row=False)

    def add_answers(self, answers: Iterable[np.ndarray]) -> None:
        """Look up answers by their tokens, int64 [T] each."""
        self._add_runs(answers, of_one_row=False)

    def _runs_of_path(self, labels: np.ndarray, segments: Sequence[Segment]) -> Iterator[np.ndarray]:
        """The learned parts of a path of a tree, which has the labels of all rows that share it.

        Where a row's question goes on from an answer of another row, the beginning of that answer is learned right
        before its own. A part is therefore also read from each branch in it on, where what lies before the branch
        begins an answer, and the reading with the shortest end counts.
        """
        branches = np.cumsum([len(segment) for segment in segments[:-1]])
        for start, run in _runs_with_starts(labels):
            cuts = [cut - start for cut in branches.tolist() if start < cut < start + len(run)]
            yield run[self._start_of_last_answer(run, cuts) :]

    def _start_of_last_answer(self, run: np.ndarray, cuts: Sequence[int]) -> int:
        starts = [0]
        for cut in cuts:
            if any(self._rows_beginning(decode(self._tokenizer, run[start:cut])) for start in starts):
                starts.append(cut)
        found = [(start, *self._rows_with_answer(decode(self._tokenizer, run[start:]))) for start in starts]
        ends = [(len(end), start) for start, rows, end in found if rows and end is not None]
        return min(ends, default=(0, 0))[1]

    def _add_runs(self, runs: Iterable[np.ndarray], of_one_row: bool) -> None:
        rows: set[int] | None = None
        for run in runs:
            own = self._look_up(decode(self._tokenizer, run))
            rows = rows & own if of_one_row and rows is not None else own
            self._checked += 1
            if not rows:
                self._wrong += 1
                self._first = self._first or repr(decode(self._tokenizer, run))[:60]

    def _look_up(self, text: str) -> set[int]:
        """The rows that have the answer, or one that begins so."""
        rows, end = self._rows_with_answer(text)
        if end is not None:
            self._ends[end] += bool(rows)
            return rows
        if callers := self._look_up_calls(text):
            return callers
        self._beginnings += 1
        return self._rows_beginning(text)

    def _rows_with_answer(self, text: str) -> tuple[set[int], str | None]:
        """The rows that have the whole answer, and its end; None if no row has."""
        for size in range(min(LONGEST_END, len(text)) + 1):
            answer = text[: len(text) - size].strip()
            if answer in self._rows_of:
                end = text[len(text) - size :].strip()
                return self._rows_with(answer, end), end
        return set(), None

    def _rows_beginning(self, text: str) -> set[int]:
        """The rows that have an answer which begins so."""
        beginning = text.strip().rstrip("\ufffd")  # half a character at the cut
        rows: set[int] = set()
        for answer in self._sorted[bisect.bisect_left(self._sorted, beginning) :]:
            if not answer.startswith(beginning):
                break
            rows |= self._rows_of[answer]
        return rows

    def _rows_with(self, answer: str, end: str) -> set[int]:
        """The rows that have the answer, and no answer among the words of the end."""
        for token in self._special:
            end = end.replace(token, "\n")
        rows = self._rows_of[answer]
        return {row for row in rows if not self._has_answer(row, end)} if end.strip() else rows

    def _has_answer(self, row: int, text: str) -> bool:
        return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) for answer in self._answers_of[row])

    def _look_up_calls(self, text: str) -> set[int]:
        for names, contents in self._callers.items():
            if all(name in text for name in names):
                for size in range(len(text), -1, -1):
                    if (content := text[:size].strip()) in contents:
                        return contents[content]
        return set()

    def check(self, cut_rows: int) -> Check:
        """The result. cut_rows: rows that lost tokens."""
        end, usual = self._ends.most_common(1)[0] if self._ends else ("", 0)
        without = self._ends[""] if end else 0
        other = self._ends.total() - usual - without
        excess = max(0, self._beginnings + without - cut_rows * self._most)
        wrong = max(self._wrong, excess) + other
        detail = f"each with the end {end!r}" if end else "no end token is learned"
        if wrong and self._first:
            detail = f"first learned text that is no answer: {self._first}"
        return Check(NAME, self._checked, wrong, detail if self._checked else "")


def _names(calls: Any) -> tuple[str, ...]:
    """The functions of tool calls, in either of the forms of Hugging Face data sets."""
    return tuple(str((call.get("function") or call).get("name", "")) for call in calls)


def _runs(labels: np.ndarray) -> list[np.ndarray]:
    """The labels of every contiguous learned part."""
    return [run for _, run in _runs_with_starts(labels)]


def _runs_with_starts(labels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The place and the labels of every contiguous learned part."""
    learned = np.concatenate([[False], labels != IGNORED_LABEL, [False]])
    edges = np.flatnonzero(learned[1:] != learned[:-1])
    return [(int(start), labels[start:end]) for start, end in zip(edges[0::2], edges[1::2], strict=True)]
