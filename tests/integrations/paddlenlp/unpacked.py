"""Models that split packed batches and run every document, or every question with each of its answers, alone."""

from __future__ import annotations

import functools
import importlib

import numpy as np
import paddle

from paddle_flashmask.integrations.paddlenlp.models.table import FAMILIES

BACKBONES = {getattr(importlib.import_module(family.module), family.base_model) for family in FAMILIES}


def questions(positions: np.ndarray, length: int) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """(start, end of the shared part, [(start, end) of every answer]) of a pack, found from its positions alone: a
    question starts at position 0 (prompts have several tokens here) and an answer where the positions fall back. A
    document without answers is shared whole and has one empty answer."""
    jumps = [t for t in range(length) if t == 0 or positions[t] != positions[t - 1] + 1]
    starts = [t for t in jumps if positions[t] == 0]
    laid_out = []
    for start, end in zip(starts, [*starts[1:], length], strict=True):
        later = [t for t in jumps if start < t < end]
        shared_end = start + int(positions[later[0]]) if later else end
        edges = [shared_end, *later, end]
        laid_out.append((start, shared_end, list(zip(edges[:-1], edges[1:], strict=True))))
    return laid_out


def run_apart(monkeypatch, calls: list[int], keep_mask: bool = False) -> None:
    """Replace the forward of the backbones; `calls` gets the length of every sequence run.

    keep_mask: every sequence has its own part of the dense mask; otherwise none, it is causal.
    """
    for model_class in BACKBONES:
        monkeypatch.setattr(model_class, "forward", _apart(model_class.forward, calls, keep_mask))


def _apart(forward, calls: list[int], keep_mask: bool):
    @functools.wraps(forward)
    def run(self, input_ids=None, position_ids=None, attention_mask=None, **kwargs):
        mask = attention_mask.numpy()
        batch = []
        for b in range(input_ids.shape[0]):
            length = int(mask[b, 0].diagonal().sum())
            rows = [None] * input_ids.shape[1]
            for start, shared_end, answers in questions(position_ids[b].numpy(), length):
                for first, last in answers:
                    places = [*range(start, shared_end), *range(first, last)]
                    index = paddle.to_tensor(places)
                    own = paddle.to_tensor(mask[b : b + 1][..., places, :][..., places]) if keep_mask else None
                    ids = input_ids[b][index].unsqueeze(0)
                    hidden = forward(self, input_ids=ids, attention_mask=own, return_dict=False)
                    hidden = hidden[0] if isinstance(hidden, (tuple, list)) else hidden
                    calls.append(len(places))
                    for i, place in enumerate(places):
                        rows[place] = hidden[0, i]
            blank = paddle.zeros_like(next(row for row in rows if row is not None))
            batch.append(paddle.stack([blank if row is None else row for row in rows]))
        return (paddle.stack(batch),)

    return run
