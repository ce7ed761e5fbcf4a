"""Tokens of a text, split at given borders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def encode_segments(tokenizer: Any, text: str, borders: Sequence[int]) -> list[list[int]]:
    """Tokens of `text` between borders, which ascend from 0; what follows the last is left out.

    They are the tokens of the whole text if no token reaches across a border. Blanks before a border count as behind
    it, since many tokenizers join them with the word that follows. Otherwise every segment is tokenized on its own.
    """
    whole = _ids(tokenizer, text[: borders[-1]])
    parts = _parts_of(tokenizer, text, borders, whole)
    if parts is not None:
        return parts
    splits = [_tokens_before(tokenizer, text, border, whole) for border in borders[:-1]] + [len(whole)]
    if all(a is not None and b is not None and a <= b for a, b in pairwise(splits)):
        return [whole[a:b] for a, b in pairwise(splits)]
    return [_continuation(tokenizer, text[a:b]) if a else _ids(tokenizer, text[a:b]) for a, b in pairwise(borders)]


def _parts_of(tokenizer: Any, text: str, borders: Sequence[int], whole: list[int]) -> list[list[int]] | None:
    """The tokens of all segments, tokenized one by one, if joined they are `whole`; otherwise None.

    The time grows with the length of the text, whereas `_tokens_before` tokenizes the beginning for every border.
    """
    shifted = [*(len(text[:border].rstrip(" ")) for border in borders[:-1]), borders[-1]]
    parts: list[list[int]] = []
    done = 0
    for a, b in pairwise(shifted):
        segment = text[a:b]
        for encode in (_continuation, _ids) if a else (_ids,):
            part = encode(tokenizer, segment)
            if whole[done : done + len(part)] == part:
                break
        else:
            return None
        parts.append(part)
        done += len(part)
    return parts if done == len(whole) else None


def _tokens_before(tokenizer: Any, text: str, border: int, whole: list[int]) -> int | None:
    """How many tokens of `whole` make up text[:border], None if one reaches across the border."""
    for head in (text[:border].rstrip(" "), text[:border]):
        tokens = _ids(tokenizer, head)
        if whole[: len(tokens)] == tokens:
            return len(tokens)
    return None


def _continuation(tokenizer: Any, segment: str) -> list[int]:
    """Tokens of a segment within a text, without the blank that SentencePiece puts before the beginning of a text."""
    anchor, tokens = _ids(tokenizer, "\n"), _ids(tokenizer, "\n" + segment)
    return tokens[len(anchor) :] if tokens[: len(anchor)] == anchor else _ids(tokenizer, segment)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
