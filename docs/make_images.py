"""Draw the pictures of docs/masks.md and README.md: python docs/make_images.py (needs matplotlib)."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paddle_flashmask import masks
from paddle_flashmask.masks.plotting import draw_mask
from paddle_flashmask.masks.registry import MASKS

IMAGES = Path(__file__).resolve().parent / "images"
GRID_COLUMNS = 5


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def draw_one(name: str, mask: masks.ColumnMask) -> None:
    figure = new_figure(2.4, 2.4)
    draw_mask(figure.subplots(), mask, labels=False)
    figure.savefig(IMAGES / f"{name}.png")


def draw_grid(path: Path) -> None:
    """Draw the example of every mask in the registry into one figure."""
    rows = -(-len(MASKS) // GRID_COLUMNS)
    figure = new_figure(2.5 * GRID_COLUMNS, 2.8 * rows)
    for axes, entry in zip_longest(figure.subplots(rows, GRID_COLUMNS, squeeze=False).flat, MASKS):
        if entry is None:
            axes.set_axis_off()
        else:
            draw_mask(axes, entry.example.build(), title=entry.name, labels=False)
    figure.savefig(path)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for entry in MASKS:
        draw_one(entry.name, entry.example.build())
    draw_one("and", masks.sliding_window(16, 5) & masks.causal_document([6, 10]))
    draw_grid(IMAGES / "masks.png")
    masks.causal_document([2538, 1742, 3212], 8192).plot(IMAGES / "tiles.png", tile=(128, 128))


if __name__ == "__main__":
    main()
