"""Rows of TRL's prompt-completion type: `prompt` and `completion`, both texts or lists of messages.

https://github.com/huggingface/trl/blob/main/docs/source/dataset_formats.md, "Prompt-completion"
"""

from __future__ import annotations

from typing import Any

from ..lines import need
from ..messages import Message, message, messages_of
from .form import Conversation, Form, Row, fewest, learned_by_weight


def _conversation(row: Row, place: str) -> Conversation:
    """Of the assistant's messages those in `completion` are learned, but for those that their `weight` leaves out."""
    prompt, completion = (
        _messages(need(row, key, place), key, role, place)
        for key, role in (("prompt", "user"), ("completion", "assistant"))
    )
    learned = sum(entry["role"] == "assistant" for entry in completion)
    learned = fewest(learned, learned_by_weight(completion, completion, place))
    return Conversation([*prompt, *completion], "'prompt' with 'completion'", learned)


def _messages(value: Any, key: str, role: str, place: str) -> list[Message]:
    return [message(role, value)] if isinstance(value, str) else messages_of(value, key, place, or_text=True)


PROMPT_COMPLETION = Form(head="completion", keys=("completion",), conversation=_conversation)
