"""Tokens of a conversation rendered by a tokenizer's Jinja chat template, split at the borders of what is learned.

The answers are located by rendering, never by searching for their text: the conversation is rendered with each of two
probes in place of an answer. What the two renderings share before the probe and after it does not depend on the
answer, so it surrounds the answer itself as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jinja2

from ..errors import DataError

Message = tuple[str, str]
Rounds = list[tuple[list[int], list[int]]]

# Two answers that differ in their first character and that no template trims or parses.
PROBES = ("PROBE", "ANOTHER")


def encode_messages(tokenizer: Any, messages: Sequence[Message], context: dict[str, Any], place: str) -> Rounds:
    """Encode (role, content) messages that end with the assistant's.

    Returns (tokens before the answer, tokens learned of it) for every message of the assistant. The learned tokens
    are the answer and its end token. They are empty, and the answer is part of the tokens before it, where the
    template writes an earlier answer without its thinking. The text after the last end token is left out.

    Raises DataError, which begins with `place`, where the template raises an error, changes an answer, or writes no
    end token after it.
    """
    conversation = _Conversation(tokenizer, messages, context, place)
    borders = [0]
    for index, (role, _) in enumerate(messages):
        if role == "assistant":
            borders += conversation.learned_span(index)
    segments = _encode_segments(tokenizer, conversation.text, borders)
    return list(zip(segments[0::2], segments[1::2], strict=True))


class _Conversation:
    """Messages and their rendering, `text`."""

    def __init__(self, tokenizer: Any, messages: Sequence[Message], context: dict[str, Any], place: str):
        self.template = tokenizer.chat_template
        self.variables = {**tokenizer.special_tokens_map, **context, "add_generation_prompt": False}
        self.end_token = tokenizer.eos_token
        self.messages = list(messages)
        self.place = place
        self.text = self._render(self.messages)

    def learned_span(self, index: int) -> tuple[int, int]:
        """Start and end in `text` of the answer, messages[index], with its end token; equal if it is not learned."""
        until_here = self.messages[: index + 1]
        end_mark = self._end_mark(self._around_answer(until_here, index)[1])
        before, after = self._around_answer(self.messages, index)
        if not after.startswith(end_mark):
            raise self._error(index, "the chat template ends it otherwise than it ends the last answer")
        end = len(self.text) - len(after) + len(end_mark)
        start = self._start(self.text, before, after, index)
        if start is None:
            # Thinking that is dropped in later rounds was still there when this answer was the last one.
            alone = self._start(self._render(until_here), *self._around_answer(until_here, index), index)
            if alone is None or index == len(self.messages) - 1:
                raise self._error(index, "the chat template changes its text")
            start = end
        return start, end

    def _start(self, text: str, before: str, after: str, index: int) -> int | None:
        """Start of the answer in `text`, None unless it stands there whole, apart from blanks around it."""
        content = self.messages[index][1]
        if not text.endswith(after):
            return None
        end = len(text) - len(after)
        written = (content, content.strip(), content.lstrip(), content.rstrip())
        if text.startswith(before) and text[len(before) : end] in written:
            return len(before)
        # An answer with thinking of its own replaces the empty thinking that the template writes before others.
        starts = (end - len(answer) for answer in written if text[:end].endswith(answer))
        return next((start for start in starts if before.startswith(text[:start])), None)

    def _around_answer(self, messages: list[Message], index: int) -> tuple[str, str]:
        """The rendered text before and after the answer messages[index], whatever the answer is."""
        first, second = (
            self._render([*messages[:index], ("assistant", probe), *messages[index + 1 :]]) for probe in PROBES
        )
        before = os.path.commonprefix([first, second])
        after = first[len(before) + len(PROBES[0]) :]
        if first != before + PROBES[0] + after or second != before + PROBES[1] + after:
            raise self._error(index, "the chat template does not write the text of answers, once and unchanged")
        return before, after

    def _end_mark(self, after: str) -> str:
        """The end token at the beginning of `after`, with any blanks before it: eos, or else all but blanks."""
        if self.end_token and self.end_token in after:
            return after[: after.index(self.end_token) + len(self.end_token)]
        if not after:
            raise DataError(f"{self.place}: the chat template writes no end token after an answer")
        return after.rstrip() or after

    def _render(self, messages: list[Message]) -> str:
        rows = [{"role": role, "content": content} for role, content in messages]
        try:
            return self.template.render({**self.variables, "messages": rows})
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise DataError(f"{self.place}: the chat template refuses the conversation: {error}") from error

    def _error(self, index: int, reason: str) -> DataError:
        number = sum(role == "assistant" for role, _ in self.messages[: index + 1])
        return DataError(f"{self.place}: cannot tell what to learn of answer {number}: {reason}")


def _encode_segments(tokenizer: Any, text: str, borders: list[int]) -> list[list[int]]:
    """Tokens of `text` between borders, which ascend from 0; what follows the last is left out.

    They are the tokens of the whole text if no token reaches across a border. Blanks before a border count as behind
    it, since many tokenizers join them with the word that follows. Otherwise every segment is tokenized on its own.
    """
    whole = _ids(tokenizer, text[: borders[-1]])
    splits = [_tokens_before(tokenizer, text, border, whole) for border in borders[:-1]] + [len(whole)]
    if all(a is not None and b is not None and a <= b for a, b in pairwise(splits)):
        return [whole[a:b] for a, b in pairwise(splits)]
    return [_continuation(tokenizer, text[a:b]) if a else _ids(tokenizer, text[a:b]) for a, b in pairwise(borders)]


def _tokens_before(tokenizer: Any, text: str, border: int, whole: list[int]) -> int | None:
    """How many tokens of `whole` make up text[:border], None if one reaches across the border."""
    for head in (text[:border].rstrip(" "), text[:border]):
        tokens = _ids(tokenizer, head)
        if whole[: len(tokens)] == tokens:
            return len(tokens)
    return None


def _continuation(tokenizer: Any, segment: str) -> list[int]:
    """Tokens of a segment within a text, without the blank that SentencePiece puts before the beginning of a text."""
    anchor, tokens = _ids(tokenizer, "\n"), _ids(tokenizer, "\n" + segment)
    return tokens[len(anchor) :] if tokens[: len(anchor)] == anchor else _ids(tokenizer, segment)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
