"""Messages in the form of Hugging Face data sets: reading, checking, comparing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import DataError
from .keys import check_message_keys, check_one_form
from .lines import parse_json

Message = dict[str, Any]

# The roles that may come before a message of each role; None stands for the beginning.
_BEFORE = {"system": (None,), "user": (None, "system", "assistant"), "assistant": ("user", "tool"), "tool": ("tool",)}


CONTEXT = ("context", "tools")
"""Keys of a row that hold variables of the chat template."""

ROLES = tuple(_BEFORE)
_OTHER_ROLES = {
    **{"developer": "system", "human": "user", "gpt": "assistant"},
    **dict.fromkeys(("function", "observation", "tool_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant, with the call in 'tool_calls'"),
}
"""Roles of OpenAI, LLaMA-Factory and ms-swift -> those here."""


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def messages_of(value: Any, key: str, place: str, or_text: bool = False) -> list[Message]:
    """The messages of a list, without keys that are null. Raises DataError, which begins with `place`, otherwise.

    Every message has a known role and a text, which only a message with tool calls may lack; it is then None.
    or_text: whether the key may also hold a string, for the error message.
    """
    if not isinstance(value, list):
        forms = "a string or a list of messages" if or_text else "a list of {role, content} messages"
        raise DataError(f"{place}: {key!r} must be {forms}; got {value!r:.80}")
    for number, entry in enumerate(value):
        _check_message(entry, f"{place}: {key}[{number}]")
    return [
        {**{name: part for name, part in entry.items() if part is not None}, "content": entry.get("content")}
        for entry in value
    ]


def _check_message(entry: Any, place: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{place} must be a {{role, content}} message; got {entry!r:.80}")
    check_message_keys(entry, place)
    if "role" not in entry:
        raise DataError(f"{place} has no 'role'; it has {', '.join(map(repr, entry)) or 'no keys'}")
    if entry["role"] not in ROLES:
        known = _OTHER_ROLES.get(entry["role"]) if isinstance(entry["role"], str) else None
        hint = "" if known is None else f"; here it is {known}"
        raise DataError(f"{place}: unknown role {entry['role']!r:.80}; the roles are {', '.join(ROLES)}{hint}")
    calls = entry.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(map(_is_call, calls))):
        raise DataError(f"{place}: 'tool_calls' must be a list of objects; got {calls!r:.80}")
    content = entry.get("content")
    if not isinstance(content, str) and (content is not None or not calls):
        raise DataError(f"{place}: 'content' must be a string; got {content!r:.80}")


def _is_call(value: Any) -> bool:
    """Whether it is an object whose `function`, if it has one, is an object too."""
    return isinstance(value, dict) and isinstance(value.get("function") or {}, dict)


def check_turns(messages: Sequence[Message], key: str, last: str, place: str) -> None:
    """Raise DataError unless an optional system message, questions and answers follow each other, up to role `last`.

    Messages of tools follow an answer with tool calls, and an answer follows them. No question is blank, and no answer
    without tool calls.
    """
    roles = [entry["role"] for entry in messages]
    turns = all(_may_follow(before, entry) for before, entry in zip([None, *messages], messages, strict=False))
    if not turns or not roles or roles[-1] != last:
        raise DataError(
            f"{place}: {key} must alternate user, assistant, ..., with the messages of tools after their call, and end "
            f"with the {last}'s; got {roles}"
        )
    for role, name in (("user", "question"), ("assistant", "answer")):
        for number, entry in enumerate((entry for entry in messages if entry["role"] == role), start=1):
            if is_blank(entry):
                raise DataError(f"{place}: {name} {number} of {key} is empty")


def _may_follow(before: Message | None, entry: Message) -> bool:
    calls = before is not None and bool(before.get("tool_calls"))
    if calls:
        return entry["role"] == "tool"
    return (before and before["role"]) in _BEFORE.get(entry["role"], ())


def is_blank(entry: Message) -> bool:
    return not entry.get("tool_calls") and not entry["content"].strip()


def split_system(messages: Sequence[Message]) -> tuple[str | None, list[Message]]:
    """Split off the text of a leading system message, None where there is none."""
    if messages and messages[0]["role"] == "system":
        return messages[0]["content"], list(messages[1:])
    return None, list(messages)


def same_messages(first: Iterable[Message], second: Iterable[Message]) -> bool:
    """Whether both are the same conversation, whatever other keys their messages have."""
    return _essence(first) == _essence(second)


def _essence(messages: Iterable[Message]) -> list[tuple[Any, ...]]:
    return [tuple(entry.get(key) for key in ("role", "content", "tool_calls")) for entry in messages]


def texts_in_turns(messages: Sequence[Message], place: str) -> list[str]:
    """Texts of user and assistant in turns. Raises DataError for messages of tools, which need a Jinja template."""
    if any(entry["role"] == "tool" or entry.get("tool_calls") for entry in messages):
        raise DataError(f"{place}: messages of tools need a Jinja chat template")
    return [entry["content"] for entry in messages]


def context_of(row: dict[str, Any], place: str) -> dict[str, Any]:
    """The variables of the chat template in a row: `context` (TRL: `chat_template_kwargs`), and `tools` if it has any.

    `tools` may also be a string with the JSON of a list, because Hugging Face's data sets cannot hold objects with
    different keys in one column.
    """
    check_one_form(row, ("context",), ("chat_template_kwargs",), place)
    key = "context" if "context" in row else "chat_template_kwargs"
    context = row.get(key) or {}
    if not isinstance(context, dict):
        raise DataError(f"{place}: {key!r} must be an object; got {type(context).__name__}")
    tools = given = row.get("tools") or []
    if isinstance(tools, str):
        try:
            tools = parse_json(tools, place, "tools")
        except json.JSONDecodeError:
            tools = None
    if not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise DataError(f"{place}: 'tools' must be a list of objects; got {given!r:.80}")
    return {**context, "tools": tools} if tools else context
