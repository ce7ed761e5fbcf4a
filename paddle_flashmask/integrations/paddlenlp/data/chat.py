"""Conversations: messages in the form of Hugging Face data sets, system texts and chat templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from ..errors import DataError
from .jinja_chat import Rounds, encode_messages


def messages_of(value: Any, key: str, place: str) -> list[tuple[str, str]]:
    """(role, content) of every message. Raises DataError, which begins with `place`, for anything else."""
    good = isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value
    )
    if not good:
        raise DataError(f"{place}: {key!r} must be a string or a list of {{role, content}} messages; got {value!r:.80}")
    return [(message["role"], message["content"]) for message in value]


def split_system(messages: list[tuple[str, str]]) -> tuple[str | None, list[tuple[str, str]]]:
    """Split off the text of a leading system message, None where there is none."""
    if messages and messages[0][0] == "system":
        return messages[0][1], messages[1:]
    return None, messages


def with_system(system: str | None, sources: Sequence[str]) -> list[str]:
    """The user's texts, the first preceded by a line with the system text."""
    return [f"{system}\n{sources[0]}", *sources[1:]] if system else list(sources)


@dataclass(frozen=True)
class Chat:
    """A conversation for the chat template. context: variables of the template. place: file and line."""

    system: str | None
    sources: Sequence[str]
    targets: Sequence[str]
    place: str
    context: dict[str, Any] = field(default_factory=dict)


def encode_chat(tokenizer: Any, chat: Chat, room: int) -> tuple[list[int], Rounds]:
    """Encode a conversation with the tokenizer's chat template.

    Returns (tokens before the conversation, [(tokens before the answer, learned tokens) of every round]).

    A Jinja template renders system, user and assistant messages. If the tokens exceed `room`, the conversation that
    begins with the earliest round from which the rest fits is rendered instead, at least the last round. Raises
    DataError as `encode_messages` does.

    PaddleNLP's `chat_template.json` renders every round on its own, and all are returned. A template whose `system`
    part uses the variable `system` gets the system text there; for the others it precedes the first question, as in
    `with_system`.
    """
    if isinstance(tokenizer.chat_template, jinja2.Template):
        return [], _encode_latest(tokenizer, chat, room)
    own = getattr(tokenizer.chat_template, "system", None) or ""
    context, sources = chat.context, chat.sources
    if chat.system and re.search(r"{[{%][^}]*\bsystem\b", own):
        context = {**context, "system": chat.system}
    else:
        sources = with_system(chat.system, sources)
    rounds = [list(pair) for pair in zip(sources, chat.targets, strict=True)]
    encoded = tokenizer.encode_chat_inputs(rounds, context_data={**context, "is_training": True})
    return list(encoded.get("system") or []), [(list(user), list(bot)) for user, bot in encoded["conversations"]]


def _encode_latest(tokenizer: Any, chat: Chat, room: int) -> Rounds:
    """The rounds of `chat`, or of its latest that fit into `room` tokens when they are rendered alone."""
    rounds = _encode_from(tokenizer, chat, 0)
    count = len(rounds)
    sizes = [len(user) + len(bot) for user, bot in rounds]
    first = next((first for first in range(count) if sum(sizes[first:]) <= room), count - 1)
    while first > 0:
        rounds = _encode_from(tokenizer, chat, first)
        if first == count - 1 or sum(len(user) + len(bot) for user, bot in rounds) <= room:
            break
        first += 1
    return rounds


def _encode_from(tokenizer: Any, chat: Chat, first: int) -> Rounds:
    messages = [("system", chat.system)] if chat.system is not None else []
    for source, target in zip(chat.sources[first:], chat.targets[first:], strict=True):
        messages += [("user", source), ("assistant", target)]
    return encode_messages(tokenizer, messages, chat.context, chat.place)
