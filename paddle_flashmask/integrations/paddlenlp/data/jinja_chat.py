"""Tokens of a conversation rendered by a tokenizer's Jinja chat template, split at the borders of what is learned.

The answers are located by rendering, never by searching for their text: the conversation is rendered with each of two
probes in place of an answer. What the two renderings share before the probe and after it does not depend on the
answer, so it surrounds the answer itself as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jinja2
import jinja2.filters

from ..errors import DataError
from .call_arguments import as_template_expects
from .marks import mark_inputs
from .messages import Message, message
from .segments import encode_segments

Rounds = list[tuple[list[int], list[int]]]
Span = tuple[int, int]

# Two answers that differ in their first character and that no template trims or parses.
PROBES = ("PROBE", "ANOTHER")


def encode_messages(tokenizer: Any, messages: Sequence[Message], context: dict[str, Any], place: str) -> Rounds:
    """Encode messages that end with the assistant's.

    Returns (tokens before the answer, tokens learned of it) for every message of the assistant. The learned tokens
    are the answer, with its tool calls, and its end token. They are empty, and the answer is part of the tokens before
    it, where the template writes an earlier answer without its thinking. The text after the last end token is left
    out. context: variables of the template.

    Raises DataError, which begins with `place`, where the template raises an error, changes an answer, does not write
    its tool calls or the variable `tools`, writes no end token after it, leaves out the text of another message or an
    argument of a call, or writes messages in another order.
    """
    conversation = _Conversation(tokenizer, messages, context, place)
    conversation.check_tools()
    borders = [0, *(border for span in conversation.learned_spans() for border in span)]
    conversation.check_inputs(borders[-1])
    segments = encode_segments(tokenizer, conversation.text, borders)
    return list(zip(segments[0::2], segments[1::2], strict=True))


class _Conversation:
    """Messages and their rendering, `text`."""

    def __init__(self, tokenizer: Any, messages: Sequence[Message], context: dict[str, Any], place: str):
        self.template = tokenizer.chat_template
        filters = self.template.environment.filters
        if filters.get("tojson") is jinja2.filters.do_tojson:
            filters["tojson"] = _to_json
        # Hugging Face's transformers pass these too; templates compare `tools` with none.
        always = {"tools": None, "documents": None, "add_generation_prompt": False}
        self.variables = {**tokenizer.special_tokens_map, **always, **context}
        self.end_token = tokenizer.eos_token
        self.place = place
        self.messages = as_template_expects(messages, self._render, place)
        self.answers = [index for index, entry in enumerate(messages) if entry["role"] == "assistant"]
        self.text = self._render(self.messages)

    def check_tools(self) -> None:
        """Raise DataError where the template ignores the variable `tools`."""
        if self.variables["tools"] and self._render(self.messages, tools=None) == self.text:
            raise DataError(f"{self.place}: the chat template does not write 'tools'")

    def learned_spans(self) -> list[Span]:
        """Start and end in `text` of every answer with its end token; equal if it is not learned."""
        spans = None
        if not any(self.messages[index].get("tool_calls") for index in self.answers):
            spans = self._spans_at_once()
        if spans is None:
            spans = [
                self._span_with_calls(index) if self.messages[index].get("tool_calls") else self._span(index)
                for index in self.answers
            ]
        for index, (_, end), (start, _) in zip(self.answers[1:], spans, spans[1:], strict=False):
            if start < end:
                raise self._error(index, "the chat template writes it before an earlier answer")
        return spans

    def check_inputs(self, end: int) -> None:
        """Raise DataError unless text[:end] holds the texts of all other messages, and arguments of calls, in order.

        One rendering, with a mark in each of them, shows it.
        """
        marked, marks = mark_inputs(self.messages, self.text)
        text, left_out = self._render(marked), self.text[end:]
        places = {mark: text.find(mark.text) for mark in marks}
        missing = next((mark for mark in marks if places[mark] < 0), None)
        if missing is not None:
            raise DataError(f"{self.place}: the chat template does not write {missing.name}")
        behind = not text.endswith(left_out) or max(places.values(), default=0) >= len(text) - len(left_out)
        if behind or not _ascending([places[mark] for mark in marks if mark.role == "user"]):
            raise DataError(f"{self.place}: the chat template writes the messages in another order")

    def _spans_at_once(self) -> list[Span] | None:
        """The spans, from two renderings with probes in place of all answers; None if that does not explain `text`.

        The number of renderings does not grow with that of the answers, as it does for spans one by one.
        """
        frames = self._frames()
        if frames is None:
            return None
        end_mark = self._end_mark(frames[-1])
        spans = []
        done = len(frames[0])
        if not self.text.startswith(frames[0]):
            return None
        for index, frame in zip(self.answers, frames[1:], strict=True):
            written = _as_written(self.messages[index]["content"])
            answer = next((answer for answer in written if self.text.startswith(answer + frame, done)), None)
            if answer is None or not frame.startswith(end_mark):
                return None
            end = done + len(answer)
            spans.append((done, end + len(end_mark)))
            done = end + len(frame)
        return spans if done == len(self.text) else None

    def _frames(self) -> list[str] | None:
        """The text before, between and after the answers, whatever they are; None unless each is written once."""
        probed = [[f"{probe}{number}." for number in range(len(self.answers))] for probe in PROBES]
        first, second = map(self._render_answers, probed)
        frames = []
        for one, other in zip(*probed, strict=True):
            frame = os.path.commonprefix([first, second])
            first, second = first[len(frame) :], second[len(frame) :]
            if not (first.startswith(one) and second.startswith(other)):
                return None
            frames.append(frame)
            first, second = first[len(one) :], second[len(other) :]
        return [*frames, first] if first == second else None

    def _span(self, index: int) -> Span:
        until_here = self.messages[: index + 1]
        end_mark = self._end_mark(self._around_answer(until_here, index)[1])
        before, after = self._around_answer(self.messages, index)
        if not after.startswith(end_mark):
            raise self._error(index, "the chat template ends it differently from the last answer")
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
        """Start of the answer in `text`, None unless it stands there whole, apart from blanks around it.

        Blanks around the tags of its thinking may differ too.
        """
        if not text.endswith(after):
            return None
        end = len(text) - len(after)
        written = _as_written(self.messages[index]["content"])
        if text.startswith(before) and text[len(before) : end] in written:
            return len(before)
        # An answer with thinking of its own replaces the empty thinking that the template writes before others.
        starts = [end - len(answer) for answer in written if text[:end].endswith(answer)]
        starts += _starts_with_other_blanks(text[:end], written[0])
        return next((start for start in starts if before.startswith(text[:start])), None)

    def _span_with_calls(self, index: int) -> Span:
        """The span of all that the template writes in place of an answer without calls."""
        answer = self.messages[index]
        until_here = self.messages[: index + 1]
        alone = self._render(until_here)
        if alone == self._render([*until_here[:-1], message("assistant", answer["content"] or "")]):
            raise self._error(index, "the chat template does not write its tool calls")
        around_here = self._around_answer(until_here, index)
        end_mark = self._end_mark(around_here[1])
        candidates = [(alone, *around_here)]
        # A template may refuse messages of tools after a probe. Then the conversation up to here decides alone.
        with contextlib.suppress(DataError):
            candidates.insert(0, (self.text, *self._around_answer(self.messages, index)))
        for text, before, after in candidates:
            start = len(before if text.startswith(before) else before.rstrip(" "))
            stop = len(text) - len(after)
            end = stop + len(end_mark)
            whole = text.startswith(before[:start]) and text.endswith(after) and after.startswith(end_mark)
            if whole and self.text.startswith(text[:end]) and (answer["content"] or "").strip() in text[start:stop]:
                return start, end
        raise self._error(index, "the chat template writes it differently from an answer without tool calls")

    def _around_answer(self, messages: list[Message], index: int) -> tuple[str, str]:
        """The rendered text before and after the answer messages[index], whatever the answer is."""
        first, second = (
            self._render([*messages[:index], message("assistant", probe), *messages[index + 1 :]]) for probe in PROBES
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

    def _render_answers(self, texts: Sequence[str]) -> str:
        """The conversation with other answers."""
        messages = list(self.messages)
        for index, text in zip(self.answers, texts, strict=True):
            messages[index] = message("assistant", text)
        return self._render(messages)

    def _render(self, messages: Sequence[Message], **changed: Any) -> str:
        try:
            return self.template.render({**self.variables, **changed, "messages": messages})
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise DataError(f"{self.place}: the chat template refuses the conversation: {error}") from error

    def _error(self, index: int, reason: str) -> DataError:
        number = self.answers.index(index) + 1
        return DataError(f"{self.place}: cannot tell what to learn of answer {number}: {reason}")


def _ascending(numbers: Sequence[int]) -> bool:
    return all(first < second for first, second in pairwise(numbers))


@jinja2.pass_eval_context  # as Jinja's own, for which the template was compiled
def _to_json(context: Any, value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """The filter `tojson` of Hugging Face's templates; Jinja's own, which PaddleNLP leaves there, writes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _starts_with_other_blanks(text: str, answer: str) -> list[int]:
    """Where the answer with thinking begins that `text` ends with, apart from blanks around `<think>` and `</think>`.

    Templates as Qwen3's write line feeds of their own there.
    """
    parts = [part for part in re.split(r"\s*(</?think>)\s*", answer.strip()) if part]
    if len(parts) == 1:
        return []
    found = re.search(r"\s*".join(map(re.escape, parts)) + r"\s*\Z", text)
    return [] if found is None else [found.start()]


def _as_written(content: str) -> tuple[str, ...]:
    """An answer as templates write it: whole, or without the blanks around it."""
    return content, content.strip(), content.lstrip(), content.rstrip()
