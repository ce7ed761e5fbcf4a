"""PaddleNLP's `chat_template.json`: checks of its form, and conversations that it renders round by round."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox

from ..errors import ConfigError, DataError

FILE = "chat_template.json"
ROUND_VARIABLES = ("user", "bot", "index", "is_first", "is_last", "is_training")
SYSTEM_VARIABLES = ("system", "is_training")
KEYS = ("conversation", "system", "query")


class _Written(jinja2.Undefined):
    """A variable without a value: false where a template tests it, an error where it writes it or loops over it."""

    __str__ = __iter__ = __len__ = jinja2.Undefined._fail_with_undefined_error


_ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=_Written)
_ENVIRONMENT.globals["raise_exception"] = None  # a global of PaddleNLP, not a variable that a row lacks


def check_template(path: Path) -> None:
    """Check a `chat_template.json`.

    Raises ConfigError unless it is an object with the keys of PaddleNLP, and `conversation` has two templates, of
    which only the first writes `user` and only the second `bot`.
    """
    try:
        template = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(template, dict) or set(template) - set(KEYS):
        found = ", ".join(map(repr, template)) if isinstance(template, dict) else type(template).__name__
        raise ConfigError(f"{path} must be an object with the keys {', '.join(KEYS)}; got {found}")
    parts = template.get("conversation")
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
        raise ConfigError(f"{path}: 'conversation' must be a list of two templates, question and answer; got {parts!r}")
    for key, sources in (("conversation", parts), ("system", [template.get("system") or ""])):
        for source in sources:
            try:
                _ENVIRONMENT.parse(source)
            except jinja2.TemplateSyntaxError as error:
                raise ConfigError(f"{path}: {key!r} is not a valid template: {error}") from error
    for part, own, other, name in ((parts[0], "user", "bot", "first"), (parts[1], "bot", "user", "second")):
        used = variables_of(part)
        if own not in used or other in used:
            raise ConfigError(
                f"{path}: the {name} template of 'conversation' must write the variable {own}, and not {other}; it "
                f"uses {', '.join(sorted(used)) or 'no variable'}"
            )


@functools.lru_cache
def variables_of(source: str) -> frozenset[str]:
    """The variables that a template reads."""
    return frozenset(jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


def encode_rounds(
    tokenizer: Any, system: str | None, rounds: Sequence[tuple[str, str]], context: dict[str, Any], place: str
) -> tuple[list[int], list[tuple[list[int], list[int]]]]:
    """Tokens of the system text, and of question and answer in every round.

    A template whose `system` part reads the variable `system` gets the system text there, "" where there is none;
    with others it precedes the first question on a line of its own. context: more variables, those of the row.

    Raises DataError, which begins with `place`, where a template writes a variable that has no value.
    """
    template = tokenizer.chat_template
    own = getattr(template, "system", None) or ""
    if "system" in variables_of(own):
        context = {"system": system or "", **context} if system is None else {**context, "system": system}
    elif system:
        (question, answer), *later = rounds
        rounds = [(f"{system}\n{question}", answer), *later]
    context = {**context, "is_training": True}
    if own:
        _check_written(own, context, SYSTEM_VARIABLES, place)
    for index, (user, bot) in enumerate(rounds):
        values = {"user": user, "bot": bot, "index": index, "is_first": index == 0, "is_last": index == len(rounds) - 1}
        for part in getattr(template, "conversation", None) or ():
            _check_written(part, {**values, **context}, ROUND_VARIABLES, place)
    encoded = tokenizer.encode_chat_inputs([list(pair) for pair in rounds], context_data=context)
    return list(encoded.get("system") or []), [(list(user), list(bot)) for user, bot in encoded["conversations"]]


def _check_written(source: str, values: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    if variables_of(source) <= values.keys():
        return
    try:
        _compiled(source).render(values)
    except jinja2.UndefinedError as error:
        raise DataError(
            f"{place}: {FILE} cannot be filled in: {error}; known are {', '.join(known)} and those of the row's "
            "'context'"
        ) from error


@functools.lru_cache
def _compiled(source: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(source)
