"""PaddleNLP's test of a dense mask for being causal, made exact."""

from __future__ import annotations

import functools
from collections.abc import Callable

import paddle


def exact(is_causal_mask: Callable) -> Callable:
    """Wrap the function whose True makes a model with use_flash_attention drop its mask and attend causally.

    PaddleNLP's is True where no pair below the diagonal is hidden, so also for a document that sees itself in both
    directions, or that begins with a prefix.
    """

    @functools.wraps(is_causal_mask)
    def is_causal(attention_mask: paddle.Tensor) -> bool:
        return is_causal_mask(attention_mask) and not _shows_the_future(attention_mask)

    return is_causal


def _shows_the_future(mask: paddle.Tensor) -> bool:
    """mask: [..., Sq, Sk], negative where a pair is hidden. False where Sq and Sk differ, as in generation."""
    queries, keys = mask.shape[-2:]
    if queries != keys or mask.dtype == paddle.bool:
        return False
    later = paddle.triu(paddle.ones([queries, keys], dtype="bool"), diagonal=1)
    return bool(((mask >= 0) & later).any())
