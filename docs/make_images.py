"""Draws the pictures of docs/masks.md and README.md: python docs/make_images.py (needs matplotlib)."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paddle_flashmask import masks
from paddle_flashmask.masks import ColumnMask
from paddle_flashmask.masks.plotting import draw_mask

IMAGES = Path(__file__).resolve().parent / "images"
HASHED = masks.hash_bucket_queries(
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3],
    [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3],
    [0, 5, 6, 11, 15, 1, 3, 8, 9, 2, 4, 7, 10, 13, 14, 12],
    [3, 4, 9, 0, 1, 8, 10, 13, 2, 5, 7, 15, 6, 11, 12, 14],
)

# The calls that docs/masks.md shows.
EXAMPLES: dict[str, ColumnMask] = {
    "full": masks.full(16, length=13),
    "causal": masks.causal(16),
    "sliding_window": masks.sliding_window(16, 5),
    "causal_document": masks.causal_document([6, 4, 6]),
    "document": masks.document([6, 4, 6]),
    "share_question": masks.share_question([[3, 3, 3], [3, 2, 2]]),
    "global_sliding_window": masks.global_sliding_window(16, 2, 2),
    "causal_blockwise": masks.causal_blockwise([5, 5, 6]),
    "prefix_lm_document": masks.prefix_lm_document([7, 9], [3, 4]),
    "prefix_lm_causal": masks.prefix_lm_causal(16, 6),
    "qk_sparse": masks.qk_sparse(16, [(3, 4), (10, 3)]),
    "hash_sparse": masks.hash_sparse(*HASHED),
    "random_eviction": masks.random_eviction(16, 8, seed=1),
    "and": masks.sliding_window(16, 5) & masks.causal_document([6, 10]),
}
IN_THE_FIGURE = [name for name in EXAMPLES if name not in ("full", "and")]


def draw_grid(path: Path) -> None:
    """The twelve masks of the paper in one figure."""
    figure = Figure(figsize=(11.0, 8.6), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(3, 4).flat, IN_THE_FIGURE, strict=True):
        draw_mask(axes, EXAMPLES[name], title=name, labels=False)
    figure.savefig(path)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for name, mask in EXAMPLES.items():
        figure = Figure(figsize=(2.4, 2.4), dpi=90, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        draw_mask(figure.subplots(), mask, labels=False)
        figure.savefig(IMAGES / f"{name}.png")
    draw_grid(IMAGES / "masks.png")
    masks.causal_document([2538, 1742, 3212], 8192).plot(IMAGES / "tiles.png", tile=(128, 128))


if __name__ == "__main__":
    main()
