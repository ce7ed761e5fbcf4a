"""Conversations: messages of Hugging Face data sets, system texts and chat templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


class DataError(ValueError):
    """A data file is missing or a row of it cannot be used; the message names the file and the line."""


def messages_of(value: Any, key: str, place: str) -> list[tuple[str, str]]:
    """(role, content) of every message. Raises DataError, which begins with `place`."""
    good = isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    )
    if not good:
        raise DataError(f"{place}: {key!r} must be a string or a list of {{role, content}} messages; got {value!r:.80}")
    return [(message["role"], message["content"]) for message in value]


def split_system(messages: list[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
    """The text of a system message at the beginning, "" where there is none, and the rest."""
    if messages and messages[0][0] == "system":
        return messages[0][1], messages[1:]
    return "", messages


def with_system(system: str, sources: Sequence[str]) -> list[str]:
    """What the user says, with the system text on a line of its own before the first."""
    return [f"{system}\n{sources[0]}", *sources[1:]] if system else list(sources)


def encode_chat(
    tokenizer: Any, system: str, sources: Sequence[str], targets: Sequence[str], context: dict[str, Any]
) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
    """Tokens before the conversation, and of (user, assistant) in every round, by the tokenizer's chat template.

    The system text is the variable `system` of a template that shows one in its `system` part; other templates get it
    as `with_system` puts it.
    """
    own = getattr(tokenizer.chat_template, "system", None) or ""
    if system and re.search(r"{[{%][^}]*\bsystem\b", own):
        context = {**context, "system": system}
    else:
        sources = with_system(system, sources)
    rounds = [list(pair) for pair in zip(sources, targets, strict=True)]
    encoded = tokenizer.encode_chat_inputs(rounds, context_data={**context, "is_training": True})
    return list(encoded.get("system") or []), [(list(user), list(bot)) for user, bot in encoded["conversations"]]
