"""Masks of rows beyond the paper's: windows of models, and the forms of cuDNN's FlexAttention benchmark.

That benchmark (NVIDIA/cudnn-frontend, benchmark/flex_attention) has eight forms: causal, and the seven below. The
lengths of documents and tree nodes here are drawn anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from tools.gpu_check.outcome import NotRun

from .paper_masks import NAMES, PaperMask, paper_mask

CUDNN_FORMS = ("flex_document", "flex_window", "flex_sink_window", "flex_tree", "flex_context_target")
# Forms whose columns have more than two intervals of hidden rows.
WITHOUT_COLUMNS = ("flex_tree_breadth_first", "flex_longformer")
_WINDOW = 513  # a query and the 512 keys before it
_SINKS = 4
_TREE_DEPTH = 7
_DOCUMENT = 10240  # average length


def mask_of(name: str, seqlen: int) -> PaperMask:
    """Mask by its name in a row: the paper's, `window_N` for N tokens, or a form of cuDNN's benchmark.

    Raises:
        NotRun: columns cannot express the mask.
    """
    if name in NAMES:
        return paper_mask(name, seqlen)
    if name in WITHOUT_COLUMNS:
        raise NotRun(f"{name}: some keys are hidden from more than two intervals of rows")
    if name.startswith("window_"):
        return _window(name, seqlen, int(name.removeprefix("window_")))
    return _FORMS[name](name, seqlen)


def _causal(name: str, ends: np.ndarray, **details: object) -> PaperMask:
    """Causal mask whose keys are hidden from row `ends` on."""
    columns = np.minimum(ends, len(ends)).astype(np.int32)[None, None, :, None]
    return PaperMask(name, len(ends), columns, causal=True, **details)


def _window(name: str, seqlen: int, width: int = _WINDOW) -> PaperMask:
    return _causal(name, np.arange(seqlen) + width, like="sliding_window", width=width)


def _sink_window(name: str, seqlen: int) -> PaperMask:
    ends = np.arange(seqlen) + _WINDOW
    ends[:_SINKS] = seqlen
    return _causal(name, ends)


def _document(name: str, seqlen: int) -> PaperMask:
    lengths = _lengths(seqlen, max(2, round(seqlen / _DOCUMENT)), spread=0.6)
    ends = np.repeat(np.cumsum(lengths), lengths)
    return _causal(name, ends, like="causal_document", documents=tuple(lengths))


def _tree(name: str, seqlen: int) -> PaperMask:
    """Binary tree in depth-first order: a token sees the nodes above its own, a key is seen by its subtree."""
    lengths = _lengths(seqlen, 2**_TREE_DEPTH - 1, spread=0.2)
    ends, order = np.cumsum(lengths), iter(range(len(lengths)))
    last = [0] * len(lengths)  # of the subtree

    def visit(depth: int) -> int:
        node = next(order)
        last[node] = node
        if depth:
            visit(depth - 1)
            last[node] = visit(depth - 1)
        return last[node]

    visit(_TREE_DEPTH - 1)
    return _causal(name, np.repeat(ends[last], lengths))


def _context_target(name: str, seqlen: int) -> PaperMask:
    """Documents whose second half are targets: each sees the causal first half, the context, and itself."""
    lengths = _lengths(seqlen, max(2, round(seqlen / _DOCUMENT)), spread=0.6)
    ends = np.repeat(np.cumsum(lengths), lengths)
    in_document = np.arange(seqlen) - (ends - np.repeat(lengths, lengths))
    is_target = in_document >= np.repeat(lengths, lengths) // 2
    return _causal(name, np.where(is_target, np.arange(seqlen) + 1, ends))


def _lengths(total: int, count: int, spread: float) -> list[int]:
    """Random lengths that add up to `total`, each within `spread` of the average."""
    generator = random.Random(0)
    weights = [generator.uniform(1 - spread, 1 + spread) for _ in range(count)]
    bounds = [round(total * sum(weights[:index]) / sum(weights)) for index in range(count + 1)]
    return [end - begin for begin, end in zip(bounds, bounds[1:], strict=False)]


_FORMS: dict[str, Callable[[str, int], PaperMask]] = {
    "flex_document": _document,
    "flex_window": _window,
    "flex_sink_window": _sink_window,
    "flex_tree": _tree,
    "flex_context_target": _context_target,
}
