"""Rollouts of prompts: rows of answers with advantages, as tokens, labels and values of their labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from paddle_flashmask.packing import IGNORED_LABEL

from ..errors import DataError
from .forms import FORM_KEYS
from .instructions import SFTLines, SFTRow, SFTTokens, answer_rows, number_of
from .keys import check_one_form, check_spelling, check_text_only
from .line_tokens import TokenizedLine
from .lines import Record, need, object_of
from .messages import CONTEXT
from .other_tasks import check_no_label, check_no_pair, check_no_tag

ROUNDING = 1e-3
"""The most by which rounding may put a log-probability above 0."""


@dataclass(frozen=True)
class Rollout(SFTRow):
    """An answer to a prompt, the only part that is learned. log_probabilities: under the policy that it was drawn from,
    of each learned token; None where the file has none."""

    advantage: float = 0.0
    log_probabilities: list[float] | None = None


class RolloutLines(SFTLines):
    """Files as for SFT. A row has a `prompt`, a string or messages, `answers` to it, strings or lists of messages,
    `advantages`, a number for each answer, and optionally `log_probabilities`, a list of numbers for each."""

    def parse(self, record: Record, place: str) -> list[Rollout]:
        row = object_of(record, place)
        for key in ("prompt", "answers", "advantages"):
            need(row, key, place)
        for key in ("weight", "weights"):
            if key in row:
                raise DataError(f"{place}: {key!r} beside 'advantages', which weight the answers already")
        check_one_form(row, ("answers",), (*FORM_KEYS, "system"), place)
        check_text_only(row, place)
        check_no_tag(row, place)
        check_no_pair(row, place)
        check_no_label(row, place)
        check_spelling(row, ("log_probabilities", *CONTEXT), place)
        answers = answer_rows(row, place)
        count = len(answers)
        advantages = _list_of(row["advantages"], "advantages", count, "numbers", place)
        given = row.get("log_probabilities")
        given = [None] * count if given is None else _list_of(given, "log_probabilities", count, "lists", place)
        before = 0 if isinstance(row["prompt"], str) else _rounds(row["prompt"])
        rollouts = []
        for number, answer in enumerate(answers):
            learned = _rounds(answer.messages) - before
            if learned < 1:
                raise DataError(f"{place}: answers[{number}] has no message of the assistant")
            rollouts.append(
                Rollout(
                    answer.messages,
                    answer.context,
                    place,
                    learned=(False,) * before + (True,) * learned,
                    advantage=number_of(advantages[number], f"advantages[{number}]", place),
                    log_probabilities=_log_probabilities(given[number], f"log_probabilities[{number}]", place),
                )
            )
        return rollouts


def _rounds(messages: list[dict[str, Any]]) -> int:
    """The number of the assistant's messages."""
    return sum(message["role"] == "assistant" for message in messages)


def _list_of(value: Any, key: str, count: int, what: str, place: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        raise DataError(f"{place}: {key!r} must be a list of {count} {what}, one per answer; got {value!r:.80}")
    return value


def _log_probabilities(value: Any, key: str, place: str) -> list[float] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise DataError(f"{place}: {key!r} must be a list of numbers; got {value!r:.80}")
    numbers = [number_of(number, f"{key}[{token}]", place) for token, number in enumerate(value)]
    if numbers and max(numbers) > ROUNDING:
        raise DataError(f"{place}: {key!r} must be logarithms, at most 0; got {max(numbers)}")
    return numbers


@dataclass
class RolloutTokens(SFTTokens):
    """Rollouts as `SFTTokens`, with `values` of their labels: `advantages`, and `log_probabilities` where the data has
    them. All rows have them, or none."""

    _scored: bool | None = field(default=None, init=False)

    def begin(self) -> None:
        super().begin()
        self._scored = None

    def accept(self, line: TokenizedLine, place: str) -> list[dict[str, Any]]:
        for row in line.rows:
            scored = "log_probabilities" in row["values"]
            if self._scored is None:
                self._scored = scored
            if scored != self._scored:
                found = "'log_probabilities', which" if scored else "no 'log_probabilities', which"
                raise DataError(f"{place}: {found} the rows before it {'have' if self._scored else 'do not have'}")
        return super().accept(line, place)

    def _tokens_of(self, row: Rollout) -> tuple[dict[str, Any], bool]:
        tokens, cut = super()._tokens_of(row)
        if all(label == IGNORED_LABEL for label in tokens["labels"]):
            raise DataError(f"{row.place}: no token of an answer fits into max_length = {self.max_length}")
        values: dict[str, Any] = {"advantages": row.advantage}
        if row.log_probabilities is not None:
            if cut:
                raise DataError(
                    f"{row.place}: an answer with log_probabilities does not fit: rows {self.cut_means}; got "
                    f"src_length = {self.src_length}, max_length = {self.max_length}"
                )
            values["log_probabilities"] = _at_labels(row, tokens["labels"])
        return {**tokens, "values": values}, cut


def _at_labels(row: Rollout, labels: list[int]) -> list[float]:
    """The log-probability of each label, 0 where there is none."""
    numbers = iter(row.log_probabilities)
    learned = sum(label != IGNORED_LABEL for label in labels)
    if learned != len(row.log_probabilities):
        raise DataError(
            f"{row.place}: an answer has {len(row.log_probabilities)} log_probabilities, and {learned} tokens are "
            "learned, its end tokens included"
        )
    return [0.0 if label == IGNORED_LABEL else next(numbers) for label in labels]
