"""A tokenizer whose tokens can be read, with a Jinja chat template."""

from __future__ import annotations

import re

from paddlenlp.transformers.tokenizer_utils import ChatTemplate

from .chat_templates import Template


class PieceTokenizer:
    """Tokens are special tokens, words with the blank before them, runs of line feeds, and single characters.

    They decode exactly.

    characters: how many were tokenized so far.
    """

    bos_token, eos_token = "<s>", "</s>"
    special_tokens_map = {"bos_token": "<s>", "eos_token": "</s>"}

    def __init__(self, template: Template):
        self.chat_template = ChatTemplate._compile_jinja_template(template.source)
        self.pieces: list[str] = []
        self.characters = 0

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        self.characters += len(text)
        pieces = re.findall(r"</?\w+>|<\|\w+\|>| ?\w+|\n+|.", text)
        self.pieces += [piece for piece in dict.fromkeys(pieces) if piece not in self.pieces]
        return {"input_ids": [self.pieces.index(piece) for piece in pieces]}

    def decode(self, ids: list[int]) -> str:
        return "".join(self.pieces[i] for i in ids)

    def render(self, messages: list[dict], **variables) -> str:
        return self.chat_template.render(messages=messages, **variables, **self.special_tokens_map)


def as_messages(messages: list[tuple[str, str]]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in messages]
