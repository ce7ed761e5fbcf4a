"""Conversations as tokens, by the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2

from ..errors import DataError
from .jinja_chat import Rounds, encode_messages
from .messages import Message, split_system, texts_in_turns
from .paddlenlp_chat import encode_rounds

# The rounds of a turn: one, and one more for every message of the assistant that answers tools.
Turn = Rounds


@dataclass(frozen=True)
class Chat:
    """A conversation that ends with the assistant. context: variables of the template. place: file and line."""

    messages: Sequence[Message]
    place: str
    context: dict[str, Any] = field(default_factory=dict)


def encode_chat(tokenizer: Any, chat: Chat, room: int) -> tuple[list[int], list[Turn]]:
    """Encode a conversation with the tokenizer's chat template.

    Returns (tokens before the conversation, turns). A turn begins with a question; a round is (tokens before the
    answer, learned tokens).

    A Jinja template renders all messages. If the tokens exceed `room`, the conversation that begins with the earliest
    turn from which the rest fits is rendered instead, at least the last turn. Raises DataError as `encode_messages`
    does.

    PaddleNLP's `chat_template.json` renders every round on its own, and all are returned; see `encode_rounds`. It has
    no messages of tools.
    """
    if isinstance(tokenizer.chat_template, jinja2.Template):
        return [], _encode_latest(tokenizer, chat, room)
    if "tools" in chat.context:
        raise DataError(f"{chat.place}: 'tools' need a Jinja chat template")
    system, messages = split_system(chat.messages)
    texts = texts_in_turns(messages, chat.place)
    rounds = list(zip(texts[0::2], texts[1::2], strict=True))
    tokens, encoded = encode_rounds(tokenizer, system, rounds, chat.context, chat.place)
    return tokens, [[pair] for pair in encoded]


def cut_prompt(tokenizer: Any, prompt: list[int], size: int) -> list[int]:
    """Cut the tokens before an answer to `size`, at least one.

    Of a Jinja template's the last are kept, which hold the header of the answer; of PaddleNLP's the first, as there.
    """
    return prompt[-size:] if isinstance(tokenizer.chat_template, jinja2.Template) else prompt[:size]


def with_system(system: str | None, sources: Sequence[str]) -> list[str]:
    """The user's texts, the first preceded by a line with the system text."""
    return [f"{system}\n{sources[0]}", *sources[1:]] if system else list(sources)


def size_of(turn: Turn) -> int:
    return sum(len(before) + len(learned) for before, learned in turn)


def _encode_latest(tokenizer: Any, chat: Chat, room: int) -> list[Turn]:
    """The turns of `chat`, or of its latest that fit into `room` tokens when they are rendered alone."""
    turns = _encode_from(tokenizer, chat, 0)
    count = len(turns)
    sizes = list(map(size_of, turns))
    first = next((first for first in range(count) if sum(sizes[first:]) <= room), count - 1)
    while first > 0:
        turns = _encode_from(tokenizer, chat, first)
        if first == count - 1 or sum(map(size_of, turns)) <= room:
            break
        first += 1
    return turns


def _encode_from(tokenizer: Any, chat: Chat, first: int) -> list[Turn]:
    """The turns of the conversation without its first `first` turns."""
    start = int(chat.messages[0]["role"] == "system")
    questions = [place for place, message in enumerate(chat.messages) if message["role"] == "user"][first:]
    messages = [*chat.messages[:start], *chat.messages[questions[0] :]]
    rounds = iter(encode_messages(tokenizer, messages, chat.context, chat.place))
    ends = [*questions[1:], len(chat.messages)]
    return [
        [next(rounds) for message in chat.messages[a:b] if message["role"] == "assistant"]
        for a, b in zip(questions, ends, strict=True)
    ]
