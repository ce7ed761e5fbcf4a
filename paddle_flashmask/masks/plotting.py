"""Pictures of masks. Drawing one imports matplotlib; importing this module does not."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from paddle_flashmask import _core

from ._inputs import integer

VISIBLE = "#2563a8"
PARTIAL = "#f2a93b"
HIDDEN = "#eef1f5"
INK = "#1f2937"

_MAX_PIXELS = 512  # longer sides are shrunk to about this many pixels
_MAX_CELLS = 40  # most rows and keys that are drawn as separate cells
_CLASS_NAMES = ("empty", "partial", "full")


class Drawable(Protocol):
    """The part of ``ColumnMask`` that a picture needs."""

    @property
    def seqlen_q(self) -> int: ...

    @property
    def seqlen_k(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def heads(self) -> int: ...

    def columns(self) -> np.ndarray: ...


def save_mask(
    mask: Drawable,
    path: str | os.PathLike[str],
    *,
    batch: int = 0,
    head: int = 0,
    tile: tuple[int, int] | None = None,
    title: str | None = None,
) -> None:
    """Write a picture of one batch row and head of ``mask``; ``ColumnMask.plot`` describes the arguments."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 6.2), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    draw_mask(figure.subplots(), mask, batch=batch, head=head, tile=tile, title=title)
    figure.savefig(path)


def draw_mask(
    axes: Any,
    mask: Drawable,
    *,
    batch: int = 0,
    head: int = 0,
    tile: tuple[int, int] | None = None,
    title: str | None = None,
    labels: bool = True,
) -> None:
    """Draw one batch row and head of ``mask`` into matplotlib ``axes``.

    Raises:
        TypeError: ``batch`` or ``head`` is not an integer, or ``tile`` is not a pair of integers.
        ValueError: an empty mask, a batch row or head that the mask does not have, or a tile side below 1.
    """
    rows, keys = mask.seqlen_q, mask.seqlen_k
    columns = _columns_of(mask, batch, head)
    if tile is None:
        _draw_pairs(axes, columns, rows, keys)
    elif isinstance(tile, (tuple, list)) and len(tile) == 2:
        _draw_tiles(axes, columns, rows, keys, integer("tile[0]", tile[0], 1), integer("tile[1]", tile[1], 1))
    else:
        raise TypeError(f"tile must be None or a pair (tile_q, tile_k), got {tile!r}")
    axes.set_title(title or "", color=INK, fontsize=12)
    axes.tick_params(colors=INK, length=0 if not labels else 3, labelsize=8)
    axes.xaxis.tick_top()
    if labels:
        axes.set_xlabel("key", color=INK)
        axes.xaxis.set_label_position("top")
        axes.set_ylabel("query", color=INK)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#9aa5b1")


def visible_share(mask: Drawable, batch: int, head: int, tile_q: int, tile_k: int) -> np.ndarray:
    """float64 [tiles of queries, tiles of keys]: the visible share of each tile's pairs, of one batch row and head.

    Raises as `draw_mask` does.
    """
    return _share(_columns_of(mask, batch, head), mask.seqlen_q, mask.seqlen_k, tile_q, tile_k)


def _columns_of(mask: Drawable, batch: int, head: int) -> np.ndarray:
    rows, keys = mask.seqlen_q, mask.seqlen_k
    if rows == 0 or keys == 0:
        raise ValueError(f"an empty mask, {rows} x {keys}, has no picture")
    batch, head = integer("batch", batch), integer("head", head)
    if batch >= mask.batch or head >= mask.heads:
        raise ValueError(f"batch {batch}, head {head} is not one of {mask.batch} x {mask.heads}")
    return np.ascontiguousarray(mask.columns()[batch : batch + 1, head : head + 1])


def _share(columns: np.ndarray, rows: int, keys: int, tile_q: int, tile_k: int) -> np.ndarray:
    """float64 [tiles of queries, tiles of keys]: the visible share of each tile's pairs."""
    counts = _core.visible_per_tile(columns, rows, tile_q, tile_k)[0, 0]
    heights = np.minimum(tile_q, rows - tile_q * np.arange(counts.shape[0]))
    widths = np.minimum(tile_k, keys - tile_k * np.arange(counts.shape[1]))
    return counts / (heights[:, None] * widths[None, :])


def _extent(shape: tuple[int, ...], tile_q: int, tile_k: int) -> tuple[float, float, float, float]:
    """The imshow extent that centres cells on their query and key indices."""
    return (-0.5, shape[1] * tile_k - 0.5, shape[0] * tile_q - 0.5, -0.5)


def _frame(axes: Any, rows: int, keys: int) -> None:
    axes.set_xlim(-0.5, keys - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)


def _draw_pairs(axes: Any, columns: np.ndarray, rows: int, keys: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shrink = max(1, -(-max(rows, keys) // _MAX_PIXELS))
    share = _share(columns, rows, keys, shrink, shrink)
    shades = LinearSegmentedColormap.from_list("visible", (HIDDEN, VISIBLE))
    axes.imshow(
        share, cmap=shades, vmin=0, vmax=1, extent=_extent(share.shape, shrink, shrink), interpolation="nearest"
    )
    if max(rows, keys) <= _MAX_CELLS:
        _grid(axes, np.arange(0.5, keys - 1), np.arange(0.5, rows - 1))
        axes.set_xticks(_indices(keys))
        axes.set_yticks(_indices(rows))
    _frame(axes, rows, keys)


def _draw_tiles(axes: Any, columns: np.ndarray, rows: int, keys: int, tile_q: int, tile_k: int) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    share = _share(columns, rows, keys, tile_q, tile_k)
    classes = np.where(share == 0, 0, np.where(share == 1, 2, 1))
    colors = (HIDDEN, PARTIAL, VISIBLE)
    axes.imshow(
        classes,
        cmap=ListedColormap(colors),
        vmin=0,
        vmax=2,
        extent=_extent(share.shape, tile_q, tile_k),
        interpolation="nearest",
    )
    if max(share.shape) <= 2 * _MAX_CELLS:
        _grid(axes, np.arange(tile_k, keys, tile_k) - 0.5, np.arange(tile_q, rows, tile_q) - 0.5)
    _frame(axes, rows, keys)
    patches = [
        Patch(facecolor=color, edgecolor="#9aa5b1", label=f"{name} ({int((classes == value).sum()):,})")
        for value, (name, color) in enumerate(zip(_CLASS_NAMES, colors, strict=True))
    ]
    axes.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        title=f"tiles of {tile_q} x {tile_k}",
        title_fontproperties={"size": 9},
    )


def _grid(axes: Any, at_keys: np.ndarray, at_rows: np.ndarray) -> None:
    for x in at_keys:
        axes.axvline(x, color="white", linewidth=1.0)
    for y in at_rows:
        axes.axhline(y, color="white", linewidth=1.0)


def _indices(count: int) -> np.ndarray:
    return np.arange(0, count, 1 if count <= 20 else 5)
