"""Rows of `messages`, as Hugging Face data sets and OpenAI's have them."""

from __future__ import annotations

from ..learned import learned_by_messages
from ..lines import need
from ..messages import messages_of
from .form import Conversation, Form, Row

_KEY = "messages"


def _conversation(row: Row, place: str) -> Conversation:
    messages = messages_of(need(row, _KEY, place), _KEY, place)
    return Conversation(messages, f"'{_KEY}'", learned_by_messages(messages, messages, _KEY, place))


MESSAGES = Form(head=_KEY, keys=(_KEY,), conversation=_conversation)
