"""Keys of rows that belong to another task and contradict what this one learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .keys import check_one_form
from .learned import check_is_learned
from .messages import Message

Row = dict[str, Any]

PREFERENCES = ("chosen", "rejected", "rejected_response", "rejected_messages")
"""Keys of pairs; the last two are ms-swift's."""
_WEIGHTS = ("weight", "weights")
_ROLLOUTS = ("advantages", "log_probabilities")


def check_instruction_keys(row: Row, place: str) -> None:
    """Raise DataError for a row of SFT whose answer is marked as not wanted, or that has the keys of rollouts."""
    if "advantages" in row:
        raise DataError(f"{place}: 'advantages' are for the key task = 'policy'")
    if "log_probabilities" in row:
        raise DataError(f"{place}: 'log_probabilities' without 'advantages'; both are for the key task = 'policy'")
    check_no_tag(row, place)
    if "sort" in row and "response" in row:
        raise DataError(f"{place}: 'response' with 'sort' is for the keys task = 'dpo', 'rm' or 'kto'")


def check_no_tag(row: Row, place: str, here: str = "here answers that are not wanted are learned") -> None:
    """Raise DataError for a row of KTO where its tag would be ignored. here: what happens in its place."""
    if "kto_tag" in row:
        raise DataError(f"{place}: 'kto_tag' is for the key task = 'kto'; {here}")
    if _says_no(row.get("label")):
        raise DataError(
            f"{place}: 'label' = {row['label']!r} is for the key task = 'kto'; {here}. A label about something else "
            "needs another name"
        )


def check_is_chosen(row: Row, messages: Sequence[Message], place: str) -> None:
    """Raise DataError for a row of SFT with a pair of answers, unless its last message is the one of `chosen`."""
    found = [key for key in PREFERENCES if key in row]
    if not found:
        return
    if "chosen" not in row:
        raise DataError(f"{place}: {found[0]!r} is for the keys task = 'dpo' or 'rm'; here only the answer is learned")
    if _last_text(row["chosen"]) != messages[-1]["content"]:
        raise DataError(
            f"{place}: 'chosen' is another answer than the one that is learned; pairs are for the keys task = 'dpo' or "
            "'rm'"
        )


def check_no_pair(row: Row, place: str) -> None:
    """Raise DataError for a row with a pair of answers."""
    for key in PREFERENCES:
        if key in row:
            raise DataError(f"{place}: {key!r} is for the keys task = 'dpo' or 'rm'; here it would be ignored")


def check_no_label(row: Row, place: str) -> None:
    """Raise DataError for a list `label`, which leaves answers of a conversation out, beside `answers`."""
    if isinstance(row.get("label"), list):
        raise DataError(f"{place}: 'label' is a list beside 'answers', each of which is learned")


def check_preference_keys(row: Row, answers: Sequence[str], place: str) -> None:
    """Raise DataError for a row of DPO, RM or KTO with the keys of another task, or with an answer that is not learned.

    answers: the keys of rows with a `prompt` that hold the answers.
    """
    for key in (*_WEIGHTS, *_ROLLOUTS):
        if key in row:
            raise DataError(f"{place}: {key!r} is for the keys task = 'sft' or 'policy'; here it would be ignored")
    if "completion" in answers:
        check_no_pair(row, place)
        if "src" in row:
            check_one_form(row, ("sort",), ("label", "kto_tag"), place)
        elif "completion" in row and _last_text(row.get("output", row["completion"])) != _last_text(row["completion"]):
            raise DataError(f"{place}: 'output' beside 'completion', from which it differs; it would be ignored")
        ends = [key for key in ("completion", "messages", "conversations") if key in row][:1]
    else:
        check_no_tag(row, place, "here answers are ranked")
        ends = [key for key in answers if key in row]
        for key in ("completion", "output"):
            if "chosen" in row and key in row and _last_text(row[key]) != _last_text(row["chosen"]):
                raise DataError(f"{place}: {key!r} beside 'chosen', from which it differs; it would be ignored")
    for key in ends:
        entry = row[key][-1] if isinstance(row[key], list) and row[key] else row[key]
        check_is_learned(entry, f"the answer of {key!r}", place)


def _says_no(label: Any) -> bool:
    """Whether a label of KTO marks an answer that is not wanted."""
    return (isinstance(label, (bool, int, float)) and label == 0) or (
        isinstance(label, str) and label.strip().lower() in ("false", "0")
    )


def _last_text(value: Any) -> Any:
    """The text of an answer: the value itself, or that of the last message."""
    if isinstance(value, list) and value:
        value = value[-1]
    return value.get("content", value.get("value")) if isinstance(value, dict) else value
