"""Rows of Alpaca: `instruction`, `input`, `output`, `system` and `history`.

https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md, "Alpaca Format"
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import DataError
from ..lines import need
from ..messages import Message, message
from .form import Conversation, Form, Row, shared_keys, system_of, text_of

_ANSWER = "output"


def _conversation(row: Row, place: str) -> Conversation:
    """All answers are learned, also those of `history`."""
    answer = message("assistant", text_of(row, _ANSWER, place))
    return Conversation([*_messages(row, place), answer], "'instruction'")


def _question(row: Row, answers: Sequence[str], place: str) -> Row:
    """answers: "completion" stands for `output`. Answers may be messages, as in Magpie's pairs."""
    keys = {answer: _ANSWER if answer == "completion" else answer for answer in answers}
    found = {
        answer: row[key] if isinstance(row.get(key), (list, dict)) else text_of(row, key, place)
        for answer, key in keys.items()
    }
    return {"prompt": _messages(row, place), **found, **shared_keys(row, place)}


def _renamed(row: Row, place: str) -> Row:
    """The row with `output` and `input` for the `response` and the text `context` of Dolly and Evol-Instruct."""
    if "instruction" not in row:
        return row
    renamed = dict(row)
    if _ANSWER not in row and "chosen" not in row and isinstance(row.get("response"), str):
        renamed[_ANSWER] = renamed.pop("response")
    if isinstance(row.get("context"), str):
        if row.get("input"):
            raise DataError(f"{place}: the text 'context' beside 'input'; a row has one of them")
        renamed["input"] = renamed.pop("context")
    return renamed


def _messages(row: Row, place: str) -> list[Message]:
    """The messages before the answer. The question is the instruction and, where it has a text, the input below it."""
    need(row, "instruction", place)
    parts = [text_of(row, key, place) for key in ("instruction", "input") if key in row]
    question = message("user", "\n".join(part for part in parts if part))
    return [*system_of(row, place), *_earlier_rounds(row.get("history", []), place), question]


def _earlier_rounds(history: object, place: str) -> list[Message]:
    if not isinstance(history, list):
        raise DataError(f"{place}: 'history' must be a list of rounds; got {history!r:.80}")
    rounds: list[Message] = []
    for number, pair in enumerate(history):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise DataError(f"{place}: history[{number}] must be a list of a question and an answer; got {pair!r:.80}")
        rounds += map(message, ("user", "assistant"), pair)
    return rounds


ALPACA = Form(
    head="instruction",
    keys=("instruction", "input", "output", "history"),
    conversation=_conversation,
    optional=("input", "system", "history"),
    has_system=True,
    question=_question,
    renamed=_renamed,
    may_repeat=True,
)
