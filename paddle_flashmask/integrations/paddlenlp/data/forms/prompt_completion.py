"""Rows of TRL's prompt-completion type: `prompt` and `completion`, both texts or lists of messages.

A `prompt` that is a text may have the text of the system in `system`.

https://github.com/huggingface/trl/blob/main/docs/source/dataset_formats.md, "Prompt-completion"
"""

from __future__ import annotations

from typing import Any

from ..learned import learned_by_messages
from ..lines import need
from ..messages import Message, message, messages_of
from .form import Conversation, Form, Row, check_system, system_of


def _conversation(row: Row, place: str) -> Conversation:
    """Of the assistant's messages those in `completion` are learned, but for those that their keys leave out."""
    prompt, completion = (
        _messages(need(row, key, place), key, role, place)
        for key, role in (("prompt", "user"), ("completion", "assistant"))
    )
    if isinstance(row["prompt"], str):
        prompt = [*system_of(row, place), *prompt]
    else:
        check_system(row, "prompt", False, place)
    learned = learned_by_messages(completion, completion, "completion", place)
    if learned is None:
        learned = tuple(True for entry in completion if entry["role"] == "assistant")
    before = tuple(False for entry in prompt if entry["role"] == "assistant")
    return Conversation([*prompt, *completion], "'prompt' with 'completion'", before + learned)


def _messages(value: Any, key: str, role: str, place: str) -> list[Message]:
    return [message(role, value)] if isinstance(value, str) else messages_of(value, key, place, or_text=True)


PROMPT_COMPLETION = Form(head="completion", keys=("completion",), conversation=_conversation, has_system=True)
