"""Keys of the objects in data files: repeated ones, misspelt ones, and those of two forms in one row."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import DataError

ALIKE = 0.8
"""The least ratio of `difflib` at which a key is taken for a misspelt one."""


_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""Keys of LLaMA-Factory, TRL and OpenAI for what belongs to a text."""
_THINKING = "thinking is part of the text, as the chat template writes it"
_THINKING_KEYS = ("reasoning_content", "reasoning", "thinking")
_SWITCHES = ("on", "off", "none", "low", "medium", "high")
"""Values of these keys in rows that say how the answer was made, as in Nemotron's."""
_NOT_READ = {
    "function_call": "a call is an entry of 'tool_calls'",
    "refusal": "the text that is learned is 'content'",
    **dict.fromkeys(_THINKING_KEYS, _THINKING),
}
"""Keys of messages that hold a part of the answer which would be left out -> where it belongs."""
_OTHER_NAMES = {"functions": "tools"}
"""Keys of OpenAI's older rows -> those here."""
_SYSTEM = ("system_prompt", "system_message")
"""Other names for the text of the system."""


class RepeatedKeyError(ValueError):
    """A key occurs twice in one JSON object."""


def object_with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of JSON's pairs, for `json.loads`. Raises RepeatedKeyError for a key that occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKeyError(next(key for number, key in enumerate(keys) if key in keys[:number]))
    return found


def check_one_form(row: dict[str, Any], first: Sequence[str], second: Sequence[str], place: str) -> None:
    """Raise DataError for a row with a key of `first` and one of `second`, which belong to different forms of rows."""
    keys = [next((key for key in form if row.get(key) is not None), None) for form in (first, second)]
    if None not in keys:
        raise DataError(f"{place}: {keys[0]!r} and {keys[1]!r} do not go together: a row has one form")


def check_text_only(row: dict[str, Any], place: str) -> None:
    """Raise DataError for a row with pictures, films or sounds, of which only the text would be learned."""
    for key in _MEDIA:
        if row.get(key):
            raise DataError(f"{place}: {key!r} cannot be used: the models here take text alone")


def check_message_keys(entry: dict[str, Any], place: str) -> None:
    """Raise DataError for a message with a part of the answer, or a picture, film or sound, in a key left unread."""
    check_text_only(entry, place)
    for key, where in _NOT_READ.items():
        if entry.get(key):
            raise DataError(f"{place}: {key!r} is not read: {where}")


def check_names(row: dict[str, Any], system: str | None, place: str) -> None:
    """Raise DataError for keys of a row under other names. system: the text of the system in the conversation, which
    such a key may repeat."""
    for key, name in _OTHER_NAMES.items():
        if row.get(key):
            raise DataError(f"{place}: unknown key {key!r}; the name here is {name!r}")
    for key in _SYSTEM:
        value = row.get(key)
        if value and value != system:
            raise DataError(
                f"{place}: unknown key {key!r}, and the conversation does not begin with this text of the system; "
                f"got {value!r:.80}"
            )


def check_thinking(row: dict[str, Any], texts: Iterable[str | None], place: str) -> None:
    """Raise DataError for a row with the thinking in a key of its own. texts: of the answers, which may repeat it."""
    written = [text for text in texts if text]
    for key in _THINKING_KEYS:
        value = row.get(key)
        if not isinstance(value, str) or not value.strip() or value in _SWITCHES:
            continue
        if not any(value.strip() in text for text in written):
            raise DataError(f"{place}: {key!r} is not read: {_THINKING}")


def check_spelling(row: dict[str, Any], known: Iterable[str], place: str) -> None:
    """Raise DataError for a key that is a misspelt one of the known keys which the row does not have."""
    for name in known:
        if row.get(name) is None and (key := near_miss(row, name)) is not None:
            raise DataError(f"{place}: unknown key {key!r}; is {name!r} meant?")


def near_miss(row: dict[str, Any], name: str) -> str | None:
    """The key of a row that looks most like `name` misspelt."""
    near = [key for key in row if _is_near(key, name)]
    return max(near, key=lambda key: difflib.SequenceMatcher(None, key.lower(), name).ratio(), default=None)


@functools.lru_cache(maxsize=4096)
def _is_near(key: str, name: str) -> bool:
    """Whether the key is almost the name. A name with a suffix, such as `prompt_id`, is another key, and so is a word
    of its own, `content`."""
    if key in (name, "content") or name in key.split("_") or key[:1].lower() != name[0]:
        return False
    return difflib.SequenceMatcher(None, key.lower(), name).ratio() >= ALIKE
