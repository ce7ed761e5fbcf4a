"""The cost of a mask: visible pairs and tile classes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MaskStatistics:
    """Exact counts, summed over batch rows and mask heads.

    A tile is ``full`` (every pair visible), ``partial`` (some) or ``empty`` (none, skipped by the kernels). Tiles at
    the lower and right edge are clipped to the matrix.
    """

    seqlen_q: int
    seqlen_k: int
    batch: int
    heads: int
    tile_q: int
    tile_k: int
    total_pairs: int
    visible_pairs: int
    full_tiles: int
    partial_tiles: int
    empty_tiles: int

    @property
    def live_tiles(self) -> int:
        """Tiles that a kernel computes: full and partial ones."""
        return self.full_tiles + self.partial_tiles

    @property
    def total_tiles(self) -> int:
        return self.live_tiles + self.empty_tiles

    @property
    def density(self) -> float:
        """Visible share of all pairs; 0.0 for an empty matrix."""
        return self.visible_pairs / self.total_pairs if self.total_pairs else 0.0

    @property
    def sparsity(self) -> float:
        """Empty share of all tiles, rho in arXiv 2410.01359 (with 128 x 128 tiles); 0.0 for an empty matrix."""
        return self.empty_tiles / self.total_tiles if self.total_tiles else 0.0

    def __str__(self) -> str:
        return "\n".join(
            (
                f"mask      batch {self.batch}, heads {self.heads}, {self.seqlen_q} queries, {self.seqlen_k} keys",
                f"pairs     {self.visible_pairs:,} of {self.total_pairs:,} visible (density {self.density:.4f})",
                f"tiles     {self.tile_q} x {self.tile_k}: {self.full_tiles:,} full, {self.partial_tiles:,} partial, "
                f"{self.empty_tiles:,} empty (sparsity {self.sparsity:.4f})",
                f"work      {self.live_tiles:,} of {self.total_tiles:,} tiles are computed",
            )
        )
