"""Rows of PaddleNLP: `src` and `tgt`, both texts or lists of the texts of every round; ERNIEKit's `system`, `label`.

https://github.com/PaddlePaddle/ERNIE/blob/develop/docs/datasets.md
"""

from __future__ import annotations

from ...errors import DataError
from ..lines import texts_of
from ..messages import message
from .form import Conversation, Form, Row, system_of


def _conversation(row: Row, place: str) -> Conversation:
    sources, targets = (texts_of(row, key, place) for key in ("src", "tgt"))
    if len(sources) != len(targets):
        raise DataError(f"{place}: {len(sources)} entries in 'src' and {len(targets)} in 'tgt'")
    for key, texts in (("src", sources), ("tgt", targets)):
        if not all(text.strip() for text in texts):
            raise DataError(f"{place}: {key!r} is empty" + (" in one of the rounds" if len(texts) > 1 else ""))
    pairs = zip(sources, targets, strict=True)
    rounds = [entry for pair in pairs for entry in map(message, ("user", "assistant"), pair)]
    return Conversation([*system_of(row, place), *rounds], "'src'", _learned(row, len(targets), place))


def _learned(row: Row, rounds: int, place: str) -> int | None:
    """How many answers are learned by ERNIEKit's `label`, a list with 1 for these and 0 for the others.

    None, for all of them, also where it is missing or no list, as in data sets whose labels are about something else.
    """
    flags = row.get("label")
    if not isinstance(flags, list):
        return None
    learned = flags.count(1)
    if not learned or flags != [0] * (rounds - learned) + [1] * learned:
        raise DataError(
            f"{place}: 'label' must be a number for each of {rounds} rounds, 0 for the first ones and 1 for those that "
            f"are learned; got {flags!r:.80}"
        )
    return None if learned == rounds else learned


PADDLENLP = Form(head="src", keys=("src", "tgt"), conversation=_conversation, optional=("system",), has_system=True)
