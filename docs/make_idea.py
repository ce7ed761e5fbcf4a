"""Draw the pictures of docs/idea.md from real masks and packs: python docs/make_idea.py (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from paddle_flashmask import masks
from paddle_flashmask.masks.plotting import HIDDEN, INK, PARTIAL, VISIBLE, draw_mask
from paddle_flashmask.packing import pack_sft

IMAGES = Path(__file__).resolve().parent / "images" / "idea"
SECOND = "#7fb069"
PADDING = "#c8cdd4"
SHADES = (VISIBLE, SECOND, PARTIAL, "#8e6bbf", "#d1495b", "#4f9d9d", "#a0783c", "#5b6b82")

DOCUMENTS = [6, 4, 6]
LONG_DOCUMENTS = [700, 500, 848]
TILE = 128
ROW = 16
SHORT_ROWS = [16, 5, 3, 8, 8, 7]  # documents of the picture on padding, in tokens
QUESTION, ANSWERS = 6, [5, 5]
PARENTS, LENGTHS = [-1, 0, 1, 1, 0], [4, 3, 2, 2, 3]
LEAVES = [2, 3, 4]


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def scores() -> Figure:
    """Two masks of one row: all documents, and every document by itself."""
    figure = new_figure(7.2, 3.9)
    left, right = figure.subplots(1, 2)
    draw_mask(left, masks.causal(sum(DOCUMENTS)), title="causal")
    draw_mask(right, masks.causal_document(DOCUMENTS), title="causal, three documents")
    return figure


def hidden_by(mask: masks.ColumnMask) -> np.ndarray:
    """[Sq, Sk]: 0 visible, 1 the future, 2 in the first interval of the key, 3 in the second."""
    rows = np.arange(mask.seqlen_q)[:, None]
    values = mask.startend_row_indices[0, 0]
    first_end = values[:, 1] if mask.causal and values.shape[1] == 2 else np.full(mask.seqlen_k, mask.seqlen_q)
    if values.shape[1] == 4:
        first_end = values[:, 1]
    reason = np.zeros((mask.seqlen_q, mask.seqlen_k), int)
    if not mask.causal:
        second = values[:, -2:] if values.shape[1] == 4 else np.stack([0 * values[:, 1], values[:, 1]], axis=1)
        reason[(rows >= second[:, 0]) & (rows < second[:, 1])] = 3
    reason[(rows >= values[:, 0]) & (rows < first_end)] = 2
    if mask.causal:
        reason[(reason == 0) & (rows < np.arange(mask.seqlen_k))] = 1
    assert ((reason == 0) == mask.to_dense()[0, 0]).all()
    return reason


def draw_intervals(axes: Any, mask: masks.ColumnMask, title: str, names: list[str]) -> None:
    colors = (VISIBLE, HIDDEN, PARTIAL, SECOND)
    axes.imshow(hidden_by(mask), cmap=ListedColormap(colors), vmin=0, vmax=3, interpolation="nearest")
    for edge in np.arange(0.5, mask.seqlen_q - 1):
        axes.axhline(edge, color="white", linewidth=1)
        axes.axvline(edge, color="white", linewidth=1)
    axes.set_title(title, color=INK, fontsize=11)
    values = mask.startend_row_indices[0, 0]
    axes.set_xticks(range(mask.seqlen_k), ["\n".join(map(str, of_key)) for of_key in values], linespacing=1.4)
    axes.set_yticks([0, 5, 10, 15])
    axes.tick_params(colors=INK, length=0, labelsize=8)
    axes.set_ylabel("query", color=INK)
    axes.set_xlabel(f"{', '.join(names)} of each key", color=INK)
    for spine in axes.spines.values():
        spine.set_color("#9aa5b1")


def columns() -> Figure:
    """The integers of two masks, and the rows that each interval hides."""
    figure = new_figure(8.8, 5.4)
    left, right = figure.subplots(1, 2)
    draw_intervals(left, masks.causal_document(DOCUMENTS), "one integer per key, with causal", ["LTS"])
    window = masks.global_sliding_window(sum(DOCUMENTS), global_tokens=2, window=3)
    draw_intervals(right, window, "four integers per key", ["LTS", "LTE", "UTS", "UTE"])
    patches = [
        Patch(facecolor=VISIBLE, label="visible"),
        Patch(facecolor=HIDDEN, edgecolor="#9aa5b1", label="hidden: the future (causal)"),
        Patch(facecolor=PARTIAL, label="hidden: [LTS, LTE)"),
        Patch(facecolor=SECOND, label="hidden: [UTS, UTE)"),
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def tiles() -> Figure:
    """The pairs of a row of documents, and the tiles that the kernels make of them."""
    figure = new_figure(8.4, 5.2)
    left, right = figure.subplots(1, 2)
    mask = masks.causal_document(LONG_DOCUMENTS)
    draw_mask(left, mask, title=f"{mask.seqlen_q} x {mask.seqlen_k} pairs", labels=False)
    draw_mask(right, mask, tile=(TILE, TILE), title="what the kernels compute", labels=False)
    return figure


def memory() -> Figure:
    """Bytes of a mask by the length of the sequence."""
    figure = new_figure(6.0, 3.6)
    axes = figure.subplots()
    lengths = 2 ** np.arange(10, 18)
    axes.loglog(
        lengths, 2.0 * lengths**2, color=PARTIAL, linewidth=2.5, label="16-bit mask of all pairs: 2 N$^2$ bytes"
    )
    axes.loglog(lengths, 16.0 * lengths, color=VISIBLE, linewidth=2.5, label="four integers per key: 16 N bytes")
    axes.loglog(lengths, 4.0 * lengths, color=VISIBLE, linewidth=1.5, linestyle="--", label="one: 4 N bytes")
    axes.set_xticks(lengths, [f"{length // 1024}K" for length in lengths])
    axes.set_yticks([2**12, 2**20, 2**30], ["4 KiB", "1 MiB", "1 GiB"])
    axes.minorticks_off()
    axes.set_ylim(2**11, 2**37)
    axes.set_xlabel("tokens in a sequence", color=INK)
    axes.tick_params(colors=INK)
    axes.grid(color=HIDDEN)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    return figure


def rows_of(lengths: list[int]) -> list[dict]:
    return [{"input_ids": list(range(length)), "labels": list(range(length))} for length in lengths]


def packed_documents() -> list[list[int]]:
    """The documents of every pack, as numbers of SHORT_ROWS' entries."""
    left = list(enumerate(SHORT_ROWS))
    packs = []
    for pack in pack_sft(rows_of(SHORT_ROWS), max_length=ROW, seed=0):
        numbers = []
        for length in pack.document_lengths:
            place = next(i for i, (_, size) in enumerate(left) if size == length)
            numbers.append(left.pop(place)[0])
        packs.append(numbers)
    return packs


def draw_rows(axes: Any, rows: list[list[int]], title: str) -> None:
    for place, numbers in enumerate(rows):
        axes.barh(place, ROW, color=PADDING, height=0.75)
        start = 0
        for number in numbers:
            axes.barh(place, SHORT_ROWS[number], left=start, color=SHADES[number], height=0.75, edgecolor="white")
            axes.text(
                start + SHORT_ROWS[number] / 2, place, str(SHORT_ROWS[number]), color="white", ha="center", va="center"
            )
            start += SHORT_ROWS[number]
    axes.set_ylim(len(SHORT_ROWS) - 0.4, -0.6)
    axes.set_xlim(0, ROW)
    axes.set_title(title, color=INK, fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def padding() -> Figure:
    """The same documents, one in a row and packed."""
    figure = new_figure(8.0, 2.7)
    left, right = figure.subplots(1, 2)
    packs = packed_documents()
    draw_rows(left, [[number] for number in range(len(SHORT_ROWS))], f"padded: {len(SHORT_ROWS)} rows")
    draw_rows(right, packs, f"packed: {len(packs)} rows")
    return figure


def same_scale(left: Any, right: Any, tokens: int) -> None:
    for axes in (left, right):
        axes.set_xlim(-0.5, tokens - 0.5)
        axes.set_ylim(tokens - 0.5, -0.5)
        for spine in axes.spines.values():
            spine.set_visible(False)


def share_question() -> Figure:
    """Two answers to a question: the question twice, and once."""
    figure = new_figure(7.4, 4.0)
    left, right = figure.subplots(1, 2)
    twice = masks.causal_document([QUESTION + answer for answer in ANSWERS])
    once = masks.share_question([[QUESTION, *ANSWERS]])
    draw_mask(left, twice, title=f"question twice: {twice.seqlen_q} tokens", labels=False)
    draw_mask(right, once, title=f"question once: {once.seqlen_q} tokens", labels=False)
    same_scale(left, right, twice.seqlen_q)
    return figure


def sequences() -> list[int]:
    """Tokens of every sequence of the tree, from the root to its leaf."""

    def depth(node: int) -> int:
        return 0 if node < 0 else LENGTHS[node] + depth(PARENTS[node])

    return [depth(leaf) for leaf in LEAVES]


def tree() -> Figure:
    """Three sequences that share prefixes: every one by itself, and as a tree."""
    figure = new_figure(7.4, 4.0)
    left, right = figure.subplots(1, 2)
    apart = masks.causal_document(sequences())
    shared = masks.prefix_tree(PARENTS, LENGTHS)
    draw_mask(left, apart, title=f"every sequence by itself: {apart.seqlen_q} tokens", labels=False)
    draw_mask(right, shared, title=f"a tree: {shared.seqlen_q} tokens", labels=False)
    same_scale(left, right, apart.seqlen_q)
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "scores": scores,
    "columns": columns,
    "tiles": tiles,
    "memory": memory,
    "padding": padding,
    "share_question": share_question,
    "tree": tree,
}


def facts() -> list[str]:
    """What the page says in numbers, computed from the masks and packs of the pictures."""
    small = masks.causal_document(DOCUMENTS).statistics()
    long = masks.causal_document(LONG_DOCUMENTS).statistics(TILE, TILE)
    packs = packed_documents()
    tokens, padded, packed = sum(SHORT_ROWS), ROW * len(SHORT_ROWS), ROW * len(packs)
    pairs = sum(n * (n + 1) // 2 for n in SHORT_ROWS)
    twice, once = sum(QUESTION + answer for answer in ANSWERS), QUESTION + sum(ANSWERS)
    return [
        f"{small.visible_pairs} of {small.total_pairs} pairs",
        f"{long.empty_tiles} of {long.total_tiles} tiles are empty",
        f"{long.full_tiles} are full",
        f"{long.partial_tiles} are partial",
        f"{2 * 2**34 // 2**30} GiB for 128K tokens",
        f"{4 * 2**17 // 2**10} KiB to {16 * 2**17 // 2**20} MiB",
        f"{tokens} tokens take {padded} places in padded rows and {packed} in packs",
        f"{len(packs) * ROW * ROW} pairs of the packs' score matrices, {pairs} are visible",
        f"{once} tokens instead of {twice}",
        f"{sum(LENGTHS)} tokens instead of {sum(sequences())}",
    ]


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        draw().savefig(IMAGES / f"{name}.png")
    print("\n".join(facts()))


if __name__ == "__main__":
    main()
