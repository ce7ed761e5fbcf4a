"""Which answers of a conversation are learned, by the keys that toolkits have for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .messages import Message

Row = dict[str, Any]
Learned = tuple[bool, ...]
"""Whether each of the assistant's messages is learned."""

_WEIGHTS = ("weight", "loss_scale")
"""Numbers of OpenAI and ms-swift. Those of messages that are no answers mean nothing, as OpenAI has it."""
_FLAGS = ("loss", "train", "training", "trainable", "train_on_turn")
"""`loss` of ms-swift, GLM and XTuner, and names in use for axolotl's `message_field_training`."""
_MASKED = "masked"
"""torchtune's: true for a message that is not learned."""
_PARTS = ("train_detail", "training_detail")
"""axolotl's, for parts of a message."""


def learned_by_messages(entries: Sequence[Row], messages: Sequence[Message], key: str, place: str) -> Learned | None:
    """The answers that are learned by the keys of their messages; None where no answer has such a key.

    entries: the messages as the row holds them in `key`, one for each of `messages`. Raises DataError for values other
    than 0 and 1 or false and true, for a message of another role that is to be learned, and for parts of a message.
    """
    learned: list[bool] = []
    marked = False
    for number, (entry, known) in enumerate(zip(entries, messages, strict=True)):
        where = f"{place}: {key}[{number}]"
        is_answer = known["role"] == "assistant"
        flags = _flags_of(entry, is_answer, where)
        if is_answer:
            learned.append(all(flags.values()))
            marked |= bool(flags)
        elif any(flags.values()):
            name = next(name for name, flag in flags.items() if flag)
            raise DataError(
                f"{where}: {name!r} = {entry[name]!r} in a message of the role {known['role']!r}; only answers of the "
                "assistant are learned"
            )
    return tuple(learned) if marked else None


def learned_by_label(row: Row, messages: Sequence[Message], place: str) -> Learned | None:
    """The answers that are learned by the key `label` of ERNIEKit and PaddleFormers, a list with a number for each.

    None, for all of them, also where it is no list, as in data sets whose labels are about something else.
    """
    flags = row.get("label")
    if not isinstance(flags, list):
        return None
    answers = sum(entry["role"] == "assistant" for entry in messages)
    if len(flags) != answers or not all(flag in (0, 1) for flag in flags):
        raise DataError(
            f"{place}: 'label' must be a list with 1 for each of the {answers} answers that is learned, and 0 for the "
            f"others; got {flags!r:.80}"
        )
    return tuple(map(bool, flags))


def learned_by_all(*found: Learned | None) -> Learned | None:
    """The answers that every one of several keys lets be learned; None where none of them leaves one out."""
    given = [flags for flags in found if flags is not None]
    both = tuple(all(flags) for flags in zip(*given, strict=True))
    return None if all(both) else both


def up_to_last_learned(
    messages: Sequence[Message], learned: Learned | None, place: str
) -> tuple[list[Message], Learned | None]:
    """The conversation up to the last answer that is learned: nothing after it has an effect on a loss.

    Raises DataError where no answer is learned.
    """
    if learned is None:
        return list(messages), None
    if not any(learned):
        raise DataError(f"{place}: none of the {len(learned)} answers is learned, by the keys of the row")
    places = [index for index, entry in enumerate(messages) if entry["role"] == "assistant"]
    count = max(number for number, flag in enumerate(learned, start=1) if flag)
    kept = learned[:count]
    return list(messages[: places[count - 1] + 1]), None if all(kept) else kept


def check_is_learned(entry: Any, name: str, place: str) -> None:
    """Raise DataError for an answer whose keys say that it is not learned, where it always is. name: in words."""
    for key, flag in _flags_of(entry, True, f"{place}: {name}").items() if isinstance(entry, dict) else ():
        if not flag:
            raise DataError(f"{place}: {key!r} = {entry[key]!r} in {name}, which is learned in any case")


def _flags_of(entry: Row, is_answer: bool, where: str) -> dict[str, bool]:
    """Whether the message is to be learned, by each of its keys for it."""
    for key in _PARTS:
        if entry.get(key):
            raise DataError(f"{where}: {key!r} is not supported: an answer is learned as a whole, or not at all")
    found = {}
    for key in (*_FLAGS, _MASKED, *(_WEIGHTS if is_answer else ())):
        value = entry.get(key)
        if value is None:
            continue
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            expected = "0 or 1" if key in _WEIGHTS else "true or false"
            raise DataError(f"{where}: {key!r} must be {expected}; got {value!r:.80}")
        found[key] = bool(value) != (key == _MASKED)
    return found
