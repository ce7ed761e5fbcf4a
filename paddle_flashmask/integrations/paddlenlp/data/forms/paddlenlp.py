"""Rows of PaddleNLP: `src` and `tgt`, both texts or lists of the texts of every round; ERNIEKit's `system`.

https://github.com/PaddlePaddle/ERNIE/blob/develop/docs/datasets.md
"""

from __future__ import annotations

from ...errors import DataError
from ..lines import texts_of
from ..messages import message
from .form import Conversation, Form, Row, system_of


def with_system(row: Row, place: str) -> Row:
    """The row with its system text in `system`; ERNIEKit's `is_system` = 1 says that it is the first text of `src`.

    The first text of `tgt`, and the first number of `label`, then mean nothing, and are left out.
    """
    flag = row.get("is_system", 0)
    if flag not in (0, 1):
        raise DataError(f"{place}: 'is_system' must be 0 or 1; got {flag!r:.80}")
    if not flag:
        return row
    if row.get("system"):
        raise DataError(f"{place}: 'is_system' = 1 beside 'system'; a row has one system text")
    sources, targets = (texts_of(row, key, place) for key in ("src", "tgt"))
    label = {"label": row["label"][1:]} if isinstance(row.get("label"), list) else {}
    return {**row, "system": sources[0], "src": sources[1:], "tgt": targets[1:], **label}


def _conversation(row: Row, place: str) -> Conversation:
    sources, targets = (texts_of(row, key, place) for key in ("src", "tgt"))
    if len(sources) != len(targets):
        raise DataError(f"{place}: {len(sources)} entries in 'src' and {len(targets)} in 'tgt'")
    for key, texts in (("src", sources), ("tgt", targets)):
        if not all(text.strip() for text in texts):
            raise DataError(f"{place}: {key!r} is empty" + (" in one of the rounds" if len(texts) > 1 else ""))
    pairs = zip(sources, targets, strict=True)
    rounds = [entry for pair in pairs for entry in map(message, ("user", "assistant"), pair)]
    return Conversation([*system_of(row, place), *rounds], "'src'")


PADDLENLP = Form(
    head="src",
    keys=("src", "tgt"),
    conversation=_conversation,
    optional=("system",),
    has_system=True,
    renamed=with_system,
)
