"""Rows of `messages`, as Hugging Face data sets and OpenAI's have them."""

from __future__ import annotations

from ..lines import need
from ..messages import messages_of
from .form import Conversation, Form, Row, fewest, learned_by_label, learned_by_weight


def _conversation(row: Row, place: str) -> Conversation:
    """By `weight` in an answer and by the list `label` beside the messages, answers may be left out."""
    messages = messages_of(need(row, "messages", place), "messages", place)
    learned = fewest(learned_by_label(row, messages, place), learned_by_weight(messages, messages, place))
    return Conversation(messages, "'messages'", learned)


MESSAGES = Form(head="messages", keys=("messages",), conversation=_conversation)
