"""Tokens as text."""

from __future__ import annotations

from typing import Any

import numpy as np

from .documents import Part


def decode(tokenizer: Any, tokens: Any) -> str:
    """The text of the tokens, special tokens included."""
    ids = [int(token) for token in tokens]
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def spans_of(tokenizer: Any, part: Part) -> list[tuple[str, bool]]:
    """The text of a part in spans, each with whether it is learned.

    A span is what its tokens add to the text before them: tokenizers write a token by itself without its leading blank.
    """
    edges = [0, *(np.flatnonzero(np.diff(part.learned)) + 1).tolist(), len(part.tokens)]
    spans, before = [], ""
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        text = decode(tokenizer, part.tokens[:end])
        added = text[len(before) :] if text.startswith(before) else decode(tokenizer, part.tokens[start:end])
        spans.append((added, bool(part.learned[start])))
        before = text
    return spans
