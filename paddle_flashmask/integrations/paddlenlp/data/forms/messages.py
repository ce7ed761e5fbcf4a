"""Rows of `messages`, as Hugging Face data sets and OpenAI's have them."""

from __future__ import annotations

from ..lines import need
from ..messages import messages_of
from .form import Conversation, Form, Row


def _conversation(row: Row, place: str) -> Conversation:
    return Conversation(messages_of(need(row, "messages", place), "messages", place), "'messages'")


MESSAGES = Form(head="messages", keys=("messages",), conversation=_conversation)
