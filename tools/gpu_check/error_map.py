"""Position of wrong results by tiles, which tells a wrong tile walk from a wrong fragment."""

from __future__ import annotations

import numpy as np

TILE = 64
_SHOWN = 24


def error_map(name: str, result: np.ndarray, truth: np.ndarray, tolerance: float) -> str:
    """Largest error of each wrong tile of rows and head dim.

    Args:
        result: [B, S, H, D], or [B, H, S] for lse; other shapes have no map.
        tolerance: least error that counts as wrong; a NaN or a wrong infinity always does.
    """
    if name == "lse" and result.ndim == 3:
        result, truth = result.transpose(0, 2, 1)[..., None], truth.transpose(0, 2, 1)[..., None]
    if result.ndim != 4 or result.shape != truth.shape:
        return ""
    with np.errstate(invalid="ignore"):
        error = np.where(result == truth, 0.0, np.abs(result - truth))
    error = np.where(np.isnan(error), np.inf, error)
    batch, rows, heads, dims = error.shape
    wrong, lines = 0, []
    tiles = batch * heads * -(-rows // TILE) * -(-dims // TILE)
    for b, h in np.ndindex(batch, heads):
        for row in range(0, rows, TILE):
            for dim in range(0, dims, TILE):
                tile = error[b, row : row + TILE, h, dim : dim + TILE]
                if tile.max() <= tolerance:
                    continue
                wrong += 1
                count = int(np.count_nonzero(tile > tolerance))
                last_row, last_dim = min(row + TILE, rows) - 1, min(dim + TILE, dims) - 1
                lines.append(
                    f"  batch {b} head {h} rows {row}-{last_row} dims {dim}-{last_dim}: "
                    f"{count} of {tile.size} elements, largest error {tile.max():.2e}"
                )
    shown = lines[:_SHOWN] + [f"  and {len(lines) - _SHOWN} more"] * (len(lines) > _SHOWN)
    return "\n".join([f"{name}: {wrong} of {tiles} tiles of {TILE} x {TILE} are wrong", *shown])
