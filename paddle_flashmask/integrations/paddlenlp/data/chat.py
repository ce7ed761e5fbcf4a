"""Conversations: messages in the form of Hugging Face data sets, system texts and chat templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import DataError


def messages_of(value: Any, key: str, place: str) -> list[tuple[str, str]]:
    """(role, content) of every message. Raises DataError, which begins with `place`, for anything else."""
    good = isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    )
    if not good:
        raise DataError(f"{place}: {key!r} must be a string or a list of {{role, content}} messages; got {value!r:.80}")
    return [(message["role"], message["content"]) for message in value]


def split_system(messages: list[tuple[str, str]]) -> tuple[str, list[tuple[str, str]]]:
    """Split off the text of a leading system message, "" where there is none."""
    if messages and messages[0][0] == "system":
        return messages[0][1], messages[1:]
    return "", messages


def with_system(system: str, sources: Sequence[str]) -> list[str]:
    """The user's texts, the first preceded by a line with the system text."""
    return [f"{system}\n{sources[0]}", *sources[1:]] if system else list(sources)


def encode_chat(
    tokenizer: Any, system: str, sources: Sequence[str], targets: Sequence[str], context: dict[str, Any]
) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
    """Encode a conversation with the tokenizer's chat template.

    A template whose `system` part uses the variable `system` gets the system text there; for the others it precedes
    the first question, as in `with_system`.

    Returns (tokens before the conversation, [(user tokens, assistant tokens) of every round]).
    """
    own = getattr(tokenizer.chat_template, "system", None) or ""
    if system and re.search(r"{[{%][^}]*\bsystem\b", own):
        context = {**context, "system": system}
    else:
        sources = with_system(system, sources)
    rounds = [list(pair) for pair in zip(sources, targets, strict=True)]
    encoded = tokenizer.encode_chat_inputs(rounds, context_data={**context, "is_training": True})
    return list(encoded.get("system") or []), [(list(user), list(bot)) for user, bot in encoded["conversations"]]
