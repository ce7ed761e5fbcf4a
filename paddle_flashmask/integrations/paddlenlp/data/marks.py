"""Marks in the inputs of a conversation, which show whether a chat template writes each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .messages import Message


@dataclass(frozen=True)
class Mark:
    """A text that stands in one input only. name: the input, for error messages. role: the role of its message."""

    text: str
    name: str
    role: str


def mark_inputs(messages: Sequence[Message], rendering: str) -> tuple[list[Message], list[Mark]]:
    """Mark every text that is not the assistant's, and every argument of a tool call.

    Returns the marked messages and the marks, in the order of the messages. Marks consist of digits, which templates
    neither trim nor change, and do not occur in `rendering`. They follow the texts, so that a template finds the
    beginning of a text as it was.
    """
    marks = _Marks(rendering)
    return [marks.mark(number, entry) for number, entry in enumerate(messages, start=1)], marks.marks


class _Marks:
    def __init__(self, rendering: str):
        self.marks: list[Mark] = []
        self._texts = _texts(rendering)

    def mark(self, number: int, entry: Message) -> Message:
        role, content = entry["role"], entry["content"]
        if role != "assistant":
            if not content.strip():
                return entry
            return {**entry, "content": f"{content} {self._add(f'the text of message {number} ({role})', role)}"}
        if not entry.get("tool_calls"):
            return entry
        name = f"of a tool call in message {number} ({role})"
        return {**entry, "tool_calls": [self._mark_call(call, name) for call in entry["tool_calls"]]}

    def _mark_call(self, call: dict[str, Any], name: str) -> dict[str, Any]:
        if call.get("function"):
            return {**call, "function": self._mark_call(call["function"], name)}
        return {**call, "arguments": self._mark_arguments(call["arguments"], name)} if "arguments" in call else call

    def _mark_arguments(self, arguments: Any, name: str) -> Any:
        """The arguments, an object or a string with its JSON, with a mark for every value."""
        if isinstance(arguments, str):
            try:
                parsed = json.loads(arguments)
            except json.JSONDecodeError:
                parsed = None
            return json.dumps(self._mark_arguments(parsed, name)) if isinstance(parsed, dict) else arguments
        if not isinstance(arguments, dict):
            return arguments
        return {key: self._add(f"the argument {key!r} {name}", "assistant") for key in arguments}

    def _add(self, name: str, role: str) -> str:
        self.marks.append(Mark(next(self._texts), name, role))
        return self.marks[-1].text


def _texts(rendering: str) -> Iterator[str]:
    """Different numbers of equal length, none of which occurs in `rendering`."""
    base = next(number for number in range(7301, 10000 + len(rendering)) if str(number) not in rendering)
    return (f"{base}{number:06d}" for number in range(10**6))
