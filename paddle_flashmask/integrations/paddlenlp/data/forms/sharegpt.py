"""Rows of ShareGPT: `conversations` of `from` and `value`, `system` and `tools`.

https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md, "Sharegpt Format"
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...errors import DataError
from ..keys import check_message_keys
from ..learned import learned_by_messages
from ..lines import need, parse_json
from ..messages import Message, message, messages_of
from .form import Conversation, Form, Row, shared_keys, system_of

_KEY = "conversations"
_ROLES = {
    **{"system": "system", "human": "user", "gpt": "assistant", "observation": "tool"},
    **{"user": "user", "assistant": "assistant", "tool": "tool"},
}
"""The speakers of ShareGPT, and the roles of messages, which many data sets have in `from`."""
_CALL = "function_call"


def _conversation(row: Row, place: str) -> Conversation:
    """What gpt says and calls is learned, but for turns that their keys leave out."""
    messages = _messages(row, place)
    turns = row[_KEY]
    learned = learned_by_messages(turns, messages[len(messages) - len(turns) :], _KEY, place)
    return Conversation(messages, f"'{_KEY}'", learned)


def _question(row: Row, answers: Sequence[str], place: str) -> Row:
    """answers: "completion" stands for the last turn of `conversations`."""
    messages = _messages(row, place)
    if answers == ("completion",):
        if not messages or messages[-1]["role"] != "assistant":
            raise DataError(f"{place}: '{_KEY}' must end with the answer of gpt")
        return {"prompt": messages[:-1], "completion": [messages[-1]], **shared_keys(row, place)}
    found = {key: [_message(need(row, key, place), f"{place}: {key}")] for key in answers}
    return {"prompt": messages, **found, **shared_keys(row, place)}


def _messages(row: Row, place: str) -> list[Message]:
    turns = need(row, _KEY, place)
    if not isinstance(turns, list):
        raise DataError(f"{place}: '{_KEY}' must be a list of {{from, value}} turns; got {turns!r:.80}")
    if turns and all(isinstance(turn, dict) and "role" in turn and "from" not in turn for turn in turns):
        messages = messages_of(turns, _KEY, place)
    else:
        messages = [_message(turn, f"{place}: {_KEY}[{number}]") for number, turn in enumerate(turns)]
    system = system_of(row, place)
    if system and messages and messages[0]["role"] == "system":
        raise DataError(f"{place}: 'system' beside a turn of the system in '{_KEY}'; a row has one system text")
    return [*system, *messages]


def _message(turn: Any, place: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{place} must be a {{from, value}} turn; got {turn!r:.80}")
    for key in ("from", "value"):
        if key not in turn:
            raise DataError(f"{place} has no {key!r}; it has {', '.join(map(repr, turn)) or 'no keys'}")
    check_message_keys(turn, place)
    speaker, value = turn["from"], turn["value"]
    if speaker == _CALL:
        return {"role": "assistant", "content": None, "tool_calls": _calls(value, place)}
    if not isinstance(speaker, str) or speaker not in _ROLES:
        known = ", ".join((*_ROLES, _CALL))
        raise DataError(f"{place}: unknown role {speaker!r:.80} in 'from'; the roles are {known}")
    if not isinstance(value, str):
        raise DataError(f"{place}: 'value' must be a text; got {value!r:.80}")
    return message(_ROLES[speaker], value)


def _calls(value: Any, place: str) -> list[Row]:
    """The tool calls of a function_call: JSON of an object with `name` and `arguments`, or of a list of them."""
    given = value
    if isinstance(value, str):
        try:
            value = parse_json(value, place, "value")
        except json.JSONDecodeError:
            value = None
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and {"name", "arguments"} <= call.keys() for call in calls):
        raise DataError(
            f"{place}: 'value' of a {_CALL} must be JSON of {{name, arguments}} or a list of these; got {given!r:.80}"
        )
    return [{"type": "function", "function": {key: call[key] for key in ("name", "arguments")}} for call in calls]


SHAREGPT = Form(
    head=_KEY,
    keys=(_KEY,),
    conversation=_conversation,
    optional=("system", "tools"),
    has_system=True,
    question=_question,
)
