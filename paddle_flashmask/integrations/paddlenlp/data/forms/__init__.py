"""Forms of rows, one module for each: what a row is recognised by, and how it becomes a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from ..keys import check_one_form, check_spelling, near_miss
from ..lines import need
from ..messages import message
from .alpaca import ALPACA
from .form import Conversation, Form, Row, check_system, context_with_functions, form_of, system_of
from .messages import MESSAGES
from .paddlenlp import PADDLENLP
from .prompt_completion import PROMPT_COMPLETION
from .sharegpt import SHAREGPT

__all__ = [
    "CONVERTED",
    "FORMS",
    "FORM_KEYS",
    "Conversation",
    "Form",
    "context_with_functions",
    "form_of",
    "preference_row",
    "system_of",
]

FORMS = (MESSAGES, SHAREGPT, ALPACA, PROMPT_COMPLETION, PADDLENLP)
"""The forms of SFT rows."""
FORM_KEYS = tuple(key for form in FORMS for key in form.keys)
"""The keys that only rows of one form have."""
CONVERTED = (ALPACA, SHAREGPT)
"""The forms of preference rows that are converted."""
_ALPACA_PARTS = ("input", "history")
_OWN = ("src", "response", "prompt", "messages", "completion")


def preference_row(row: Row, answers: Sequence[str], place: str) -> Row:
    """A row with `prompt` and the answers in the keys `answers`, from a row of CONVERTED; other rows as they are.

    Raises DataError, which begins with the place, for keys of two forms, a missing key, and a value of the wrong type.
    """
    row = _with_prompt(row, place)
    converted = [form for form in CONVERTED if form.head in row]
    if answers == ("completion",) and (converted or "messages" in row):
        _check_tag(row, place)
    if not converted:
        head = next((key for key in _OWN if key in row), "chosen")
        check_system(row, head, head == PADDLENLP.head, place)
        check_one_form(row, (head,), _ALPACA_PARTS if head == PADDLENLP.head else (*_ALPACA_PARTS, "tgt"), place)
        return row
    form = converted[0]
    row = form.renamed(row, place)
    for other in (*(entry.keys for entry in CONVERTED if entry is not form), _OWN):
        check_one_form(row, form.keys, other, place)
    check_spelling(row, form.optional, place)
    return form.question(row, answers, place)


def _with_prompt(row: Row, place: str) -> Row:
    """The row with the messages of a `prompt` that is a text beside a `system`; ERNIEKit has it in `question`."""
    heads = ("prompt", "src", "messages", *(form.head for form in CONVERTED))
    is_answered = "chosen" in row or "completion" in row
    if is_answered and not any(key in row for key in heads) and isinstance(row.get("question"), str):
        row = {key: value for key, value in row.items() if key != "question"} | {"prompt": row["question"]}
    if not isinstance(row.get("prompt"), str) or any(key in row for key in heads[1:]):
        return row
    system = system_of(row, place)
    rest = {key: value for key, value in row.items() if key != "system"}
    return {**rest, "prompt": [*system, message("user", row["prompt"])]} if system else rest


def _check_tag(row: Row, place: str) -> None:
    """Raise DataError for a row of KTO without its tag, while it has the keys of the file."""
    if "kto_tag" not in row:
        need(row, "label" if near_miss(row, "kto_tag") is None else "kto_tag", place)
