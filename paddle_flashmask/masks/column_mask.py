"""ColumnMask: a column-sparse attention mask and what can be done with one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paddle_flashmask import _core

from ._inputs import integer
from .statistics import MaskStatistics

if TYPE_CHECKING:
    import paddle

_CHANNELS = {(True, 1): "LTS", (True, 2): "LTS, LTE", (False, 2): "LTS, UTE", (False, 4): "LTS, LTE, UTS, UTE"}


@dataclass(frozen=True, eq=False, repr=False)
class ColumnMask:
    """Which queries each key is hidden from, as ``flashmask_attention`` takes it (arXiv 2410.01359, section 4.1).

    Attributes:
        startend_row_indices: int32 array [B, Hm, Sk, n] with values in [0, Sq]; half-open intervals of hidden rows:

            ======  =  =====================  =========================================================
            causal  n  values of key j        hidden rows
            ======  =  =====================  =========================================================
            True    1  LTS                    i >= LTS, and the future
            True    2  LTS, LTE               LTS <= i < LTE, and the future
            False   2  LTS, UTE               i >= LTS or i < UTE
            False   4  LTS, LTE, UTS, UTE     LTS <= i < LTE or UTS <= i < UTE
            ======  =  =====================  =========================================================

        causal: hides key j from query i unless j <= i + Sk - Sq (bottom-right aligned).
        seqlen_q: number of query rows Sq.

    Pass ``mask.to_paddle()`` and ``causal=mask.causal`` to the operator. ``Hm`` heads serve Hq query heads in groups
    of Hq / Hm. Two masks are equal (``==``) when their arrays, ``causal`` and ``seqlen_q`` are; ``equivalent`` compares
    what they show instead.
    """

    startend_row_indices: np.ndarray
    causal: bool
    seqlen_q: int

    def __post_init__(self) -> None:
        self.validate()
        object.__setattr__(self, "causal", bool(self.causal))
        object.__setattr__(self, "seqlen_q", int(self.seqlen_q))

    def validate(self) -> None:
        """Raises TypeError or ValueError, saying what was got and expected, unless the operator takes the mask."""
        values = self.startend_row_indices
        if not isinstance(values, np.ndarray):
            raise TypeError(f"startend_row_indices must be a numpy array, got {type(values).__name__}")
        if values.dtype != np.int32:
            raise TypeError(f"startend_row_indices must be int32, got {values.dtype}")
        if values.ndim != 4:
            raise ValueError(f"startend_row_indices must have shape [B, Hm, Sk, n], got {values.shape}")
        if not isinstance(self.causal, (bool, np.bool_)):
            raise TypeError(f"causal must be a bool, got {self.causal!r}")
        if (bool(self.causal), values.shape[3]) not in _CHANNELS:
            expected = "1 or 2" if self.causal else "2 or 4"
            raise ValueError(f"with causal={self.causal} n must be {expected}, got shape {values.shape}")
        rows = integer("seqlen_q", self.seqlen_q)
        if values.size and (values.min() < 0 or values.max() > rows):
            place = np.argwhere((values < 0) | (values > rows))[0].tolist()
            raise ValueError(
                f"startend_row_indices must lie in [0, seqlen_q={rows}], got {values[tuple(place)]} at {place}"
            )

    @property
    def batch(self) -> int:
        """B."""
        return self.startend_row_indices.shape[0]

    @property
    def heads(self) -> int:
        """Hm."""
        return self.startend_row_indices.shape[1]

    @property
    def seqlen_k(self) -> int:
        """Sk."""
        return self.startend_row_indices.shape[2]

    def columns(self) -> np.ndarray:
        """int32 [B, Hm, Sk, 6]: the normal form the kernels use. Per key the visible rows [begin, end), then up to two
        holes in them as begin, end; an absent range is (Sq, 0)."""
        return _core.normal_form(self.startend_row_indices, self.causal, self.seqlen_q)

    @classmethod
    def _from_columns(cls, columns: np.ndarray, seqlen_q: int) -> ColumnMask:
        values, causal = _core.encode(columns, seqlen_q)
        return cls(values, causal, seqlen_q)

    def to_paddle(self) -> paddle.Tensor:
        """The int32 tensor [B, Hm, Sk, n] that ``flashmask_attention`` takes, with ``causal=mask.causal``."""
        import paddle

        return paddle.to_tensor(self.startend_row_indices, dtype="int32")

    def to_dense(self) -> np.ndarray:
        """bool [B, Hm, Sq, Sk], True where the query (row) sees the key (column)."""
        return _core.to_dense(self.columns(), self.seqlen_q)

    @classmethod
    def from_dense(cls, dense: Any) -> ColumnMask:
        """The smallest column mask that shows exactly what ``dense`` shows.

        Args:
            dense: bool array [Sq, Sk], [B, Sq, Sk] or [B, Hm, Sq, Sk], True where visible.

        Forms are tried from small to large: causal with n = 1, then n = 2 without and with causal, then n = 4.

        Raises:
            TypeError: not a bool array.
            ValueError: wrong number of dimensions, or a key is hidden from more than two intervals of queries; the
                message names the first such batch row, head and key column.
        """
        dense = np.asarray(dense)
        if dense.dtype != np.bool_:
            raise TypeError(f"dense must be a bool array (True = visible), got {dense.dtype}")
        if dense.ndim not in (2, 3, 4):
            raise ValueError(f"dense must have shape [Sq, Sk], [B, Sq, Sk] or [B, Hm, Sq, Sk], got {dense.shape}")
        if dense.ndim == 2:
            dense = dense[None, None]
        elif dense.ndim == 3:
            dense = dense[:, None]
        return cls._from_columns(_core.columns_from_dense(dense), dense.shape[2])

    def __and__(self, other: ColumnMask) -> ColumnMask:
        """Shows what both show, in the smallest form. Batch and head counts of 1 broadcast.

        Raises:
            ValueError: other lengths, or a key would be hidden from more than two intervals of queries; the message
                names the first such batch row, head and key column.
        """
        if not isinstance(other, ColumnMask):
            return NotImplemented
        if (self.seqlen_q, self.seqlen_k) != (other.seqlen_q, other.seqlen_k):
            raise ValueError(
                f"masks must have the same lengths, got {self.seqlen_q} x {self.seqlen_k} and "
                f"{other.seqlen_q} x {other.seqlen_k}"
            )
        left, right = self.columns(), other.columns()
        try:
            shape = np.broadcast_shapes(left.shape, right.shape)
        except ValueError:
            raise ValueError(
                f"masks must have the same batch and heads or 1, got {left.shape[:2]} and {right.shape[:2]}"
            ) from None
        left, right = np.broadcast_to(left, shape), np.broadcast_to(right, shape)
        return self._from_columns(_core.intersect(left, right, self.seqlen_q), self.seqlen_q)

    def expand(self, batch: int, heads: int = 1) -> ColumnMask:
        """The same mask for ``batch`` rows and ``heads`` mask heads; only sizes of 1 can grow."""
        batch, heads = integer("batch", batch), integer("heads", heads)
        shape = (batch, heads, *self.startend_row_indices.shape[2:])
        try:
            values = np.broadcast_to(self.startend_row_indices, shape)
        except ValueError:
            raise ValueError(f"cannot expand batch and heads {(self.batch, self.heads)} to {(batch, heads)}") from None
        return ColumnMask(np.ascontiguousarray(values), self.causal, self.seqlen_q)

    def statistics(self, tile_q: int = 128, tile_k: int = 128) -> MaskStatistics:
        """Exact visible pairs and full / partial / empty tiles of ``tile_q`` x ``tile_k``, over all rows and heads."""
        tile_q, tile_k = integer("tile_q", tile_q, 1), integer("tile_k", tile_k, 1)
        total, visible, full, partial, empty = _core.statistics(self.columns(), self.seqlen_q, tile_q, tile_k)
        return MaskStatistics(
            seqlen_q=self.seqlen_q,
            seqlen_k=self.seqlen_k,
            batch=self.batch,
            heads=self.heads,
            tile_q=tile_q,
            tile_k=tile_k,
            total_pairs=total,
            visible_pairs=visible,
            full_tiles=full,
            partial_tiles=partial,
            empty_tiles=empty,
        )

    def plot(
        self,
        path: str | os.PathLike[str],
        *,
        batch: int = 0,
        head: int = 0,
        tile: tuple[int, int] | None = None,
        title: str | None = None,
    ) -> None:
        """Writes a picture: queries down, keys across, visible pairs in colour (needs matplotlib).

        Long sequences are shrunk, each pixel showing the visible share of what it stands for. With ``tile=(tile_q,
        tile_k)`` the tiles are shown instead, coloured as full, partial or empty. ``path`` chooses the file format.
        """
        from .plotting import save_mask

        save_mask(self, path, batch=batch, head=head, tile=tile, title=title)

    def equivalent(self, other: ColumnMask) -> bool:
        """True when both show the same pairs, whatever their form."""
        if not isinstance(other, ColumnMask):
            raise TypeError(f"other must be a ColumnMask, got {type(other).__name__}")
        return self.seqlen_q == other.seqlen_q and np.array_equal(self.columns(), other.columns())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ColumnMask):
            return NotImplemented
        return (
            self.causal == other.causal
            and self.seqlen_q == other.seqlen_q
            and np.array_equal(self.startend_row_indices, other.startend_row_indices)
        )

    __hash__ = None

    def __repr__(self) -> str:
        return (
            f"ColumnMask(B={self.batch}, Hm={self.heads}, Sq={self.seqlen_q}, Sk={self.seqlen_k}, "
            f"causal={self.causal}, values=({_CHANNELS[self.causal, self.startend_row_indices.shape[3]]}))"
        )
