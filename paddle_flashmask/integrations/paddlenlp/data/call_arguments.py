"""Arguments of tool calls in the form that a chat template expects: objects, or strings of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import DataError
from .lines import parse_json
from .messages import Message

Render = Callable[[Sequence[Message]], str]


def as_template_expects(messages: Sequence[Message], render: Render, place: str) -> list[Message]:
    """The messages with arguments that `render`, the chat template, writes as JSON of an object.

    OpenAI's rows have a string of JSON, Hugging Face's an object. A template for objects writes a string as JSON once
    more, `"{\\"a\\": 1}"`, or refuses it; the strings then become the objects that they hold. Templates that write
    strings as they stand get them.
    """
    objects = [_with_arguments(entry, lambda found: found, place) for entry in messages]
    if objects == list(messages):
        return list(messages)
    mark = _mark_in_none(messages)
    probes = [_with_arguments(entry, lambda found: json.dumps({mark: 1}), place) for entry in messages]
    try:
        is_quoted = json.dumps(f'"{mark}"')[1:-1] in render(probes)
    except DataError:
        is_quoted = True
    return objects if is_quoted else list(messages)


def _with_arguments(entry: Message, change: Callable[[dict[str, Any]], Any], place: str) -> Message:
    """The message with change(object) in place of every string of arguments that holds an object."""
    if not entry.get("tool_calls"):
        return entry
    return {**entry, "tool_calls": [_changed(call, change, place) for call in entry["tool_calls"]]}


def _changed(call: dict[str, Any], change: Callable[[dict[str, Any]], Any], place: str) -> dict[str, Any]:
    if call.get("function"):
        return {**call, "function": _changed(call["function"], change, place)}
    if not isinstance(call.get("arguments"), str):
        return call
    try:
        found = parse_json(call["arguments"], place, "arguments")
    except json.JSONDecodeError:
        return call
    return {**call, "arguments": change(found)} if isinstance(found, dict) else call


def _mark_in_none(messages: Sequence[Message]) -> str:
    """A number that no text of the messages has."""
    text = json.dumps(messages)
    return next(number for number in map(str, range(7301, 10000 + len(text))) if number not in text)
