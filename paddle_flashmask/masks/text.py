"""Pictures of masks in characters, for a terminal."""

from __future__ import annotations

from .plotting import Drawable, visible_share

SHADES = " ░▒▓█"
"""From no visible pair to all."""


def mask_as_text(mask: Drawable, batch: int, head: int, width: int) -> str:
    """Return the picture of one batch row and head of ``mask``; ``ColumnMask.to_text`` describes the arguments."""
    tile_k = max(1, -(-mask.seqlen_k // width))
    share = visible_share(mask, batch, head, 2 * tile_k, tile_k)
    top = len(SHADES) - 1
    return "\n".join("".join(SHADES[_shade(value, top)] for value in row) for row in share)


def _shade(value: float, top: int) -> int:
    """The lightest shade is for any visible pair, the darkest for all pairs only."""
    if value in (0.0, 1.0):
        return int(value) * top
    return 1 + min(int(value * (top - 1)), top - 2)
