"""The record of a form, and what forms share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import DataError
from ..keys import check_one_form, near_miss
from ..learned import Learned
from ..lines import keys_of, need
from ..messages import Message, context_of, message

Row = dict[str, Any]

_QUESTIONS = ("question", "query", "problem", "inputs", "input")
_ANSWERS = ("response", "answer", "generated_solution", "solution", "target", "targets", "output")
"""Names of questions and answers in data sets of no form that is read."""


@dataclass(frozen=True)
class Conversation:
    """messages: from the first to the last. name: of the key that holds them, for errors. learned: whether each of the
    assistant's messages is learned, by the form and the keys of the messages; None means all."""

    messages: list[Message]
    name: str
    learned: Learned | None = None


@dataclass(frozen=True)
class Form:
    """One form of rows.

    head: the key that errors name for a row of no form. keys: those that only rows of this form have. optional: others
    that it knows, for misspelt ones. has_system: whether the system text has a key of its own, `system`.
    conversation: reads a row of SFT. question: reads the messages before the answers of a preference row, and the
    answers in the keys it is given; None where preference rows need no conversion. renamed: the row with the keys that
    the other two read, where data sets are published with others. may_repeat: whether its texts may stand beside a
    conversation that has them too, and is read instead.
    """

    head: str
    keys: tuple[str, ...]
    conversation: Callable[[Row, str], Conversation]
    optional: tuple[str, ...] = ()
    has_system: bool = False
    question: Callable[[Row, Sequence[str], str], Row] | None = None
    renamed: Callable[[Row, str], Row] = lambda row, place: row
    may_repeat: bool = False


def form_of(row: Row, forms: Sequence[Form], place: str) -> Form:
    """The form of a row. Raises DataError, which begins with the place, unless it has the keys of exactly one."""
    found = [form for form in forms if any(key in row for key in form.keys)]
    if not found or not any(form.head in row for form in found):
        _check_other_names(row, place)
    if not found:
        heads = [form.head for form in forms]
        near = next((f" (is {key!r} meant to be {head!r}?)" for head in heads if (key := near_miss(row, head))), "")
        listed = f"{', '.join(map(repr, heads[:-1]))} or {heads[-1]!r}"
        raise DataError(f"{place}: no {listed}{near}; the row has {keys_of(row)}")
    for other in found[1:]:
        if not (other.may_repeat and _repeats(row, other.keys, found[0].head)):
            check_one_form(row, found[0].keys, other.keys, place)
    check_system(row, found[0].head, found[0].has_system, place)
    return found[0]


def _check_other_names(row: Row, place: str) -> None:
    """Raise DataError, which says what to rename, for a row that has a question and an answer under other names."""
    question, answer = (
        next((key for key in names if isinstance(row.get(key), str)), None) for names in (_QUESTIONS, _ANSWERS)
    )
    if question is None or answer is None:
        return
    names = {question: "instruction", answer: "output", "system_prompt": "system"}
    renamed = [f"{key!r} to {name!r}" for key, name in names.items() if key in row and key != name]
    raise DataError(f"{place}: no 'instruction'; rename {', '.join(renamed)}; the row has {keys_of(row)}")


def _repeats(row: Row, keys: Sequence[str], head: str) -> bool:
    """Whether the texts in `keys` stand in the conversation in row[head] too, as in Magpie's rows."""
    entries = row.get(head)
    if not isinstance(entries, list):
        return False
    texts = [entry.get(key) for entry in entries if isinstance(entry, dict) for key in ("content", "value")]
    return all(row[key] in texts for key in keys if row.get(key))


def check_system(row: Row, head: str, has_system: bool, place: str) -> None:
    """Raise DataError for a system text in a key that the form does not have, and would ignore."""
    if row.get("system") and not has_system:
        raise DataError(f"{place}: 'system' and {head!r} do not go together: the system text is a message of its own")


def text_of(row: Row, key: str, place: str) -> str:
    """The text of a key that the row must have."""
    return _checked_text(need(row, key, place), key, place)


def system_of(row: Row, place: str) -> list[Message]:
    """The message of the system in the key `system`; none where there is no text."""
    text = _checked_text(row.get("system", ""), "system", place)
    return [message("system", text)] if text.strip() else []


def shared_keys(row: Row, place: str) -> Row:
    """The keys that a preference row keeps in every form: `label` and `kto_tag`, and the variables of the template."""
    found = {key: row[key] for key in ("label", "kto_tag") if key in row}
    context = context_with_functions(row, place)
    tools = context.pop("tools", None)
    return {**found, **({"context": context} if context else {}), **({"tools": tools} if tools else {})}


def context_with_functions(row: Row, place: str) -> Row:
    """`context` and `tools` of a row. Functions alone are completed to tools, as chat templates expect them."""
    found = dict(context_of(row, place))
    if "tools" in row and "tools" in found:
        found["tools"] = [_as_tool(tool) for tool in found["tools"]]
    return found


def _as_tool(entry: Row) -> Row:
    return entry if "function" in entry or "name" not in entry else {"type": "function", "function": entry}


def _checked_text(value: Any, key: str, place: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} must be a text; got {value!r:.80}")
    return value
