"""ColumnMask: a column-sparse attention mask, with its conversions, combination, statistics and pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paddle_flashmask import _core

from ._inputs import integer, order_text
from .plotting import save_mask
from .row_order import row_order
from .statistics import MaskStatistics
from .text import mask_as_text

if TYPE_CHECKING:
    import paddle

BOUND_NAMES = {(True, 1): "LTS", (True, 2): "LTS, LTE", (False, 2): "LTS, UTE", (False, 4): "LTS, LTE, UTS, UTE"}


@dataclass(frozen=True, eq=False, repr=False)
class ColumnMask:
    """The query rows that each key is hidden from, as at most two intervals (arXiv 2410.01359, section 4.1).

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

        causal: whether key j is also hidden from query i unless j <= i + Sk - Sq (bottom-right aligned).
        seqlen_q: number of query rows Sq.

    Pass ``mask.to_paddle()`` and ``causal=mask.causal`` to the operator. The Hm mask heads serve Hq query heads in
    groups of Hq / Hm. ``==`` compares the arrays, ``causal`` and ``seqlen_q`` of two masks; ``equivalent`` compares
    the pairs that are visible.

    Raises:
        TypeError: the array is not int32 NumPy, ``causal`` is not a bool, or ``seqlen_q`` is not an integer.
        ValueError: a shape, an n that ``causal`` does not allow, or a value outside [0, Sq].
    """

    startend_row_indices: np.ndarray
    causal: bool
    seqlen_q: int

    def __post_init__(self) -> None:
        self.validate()
        object.__setattr__(self, "causal", bool(self.causal))
        object.__setattr__(self, "seqlen_q", int(self.seqlen_q))

    def validate(self) -> None:
        """Raise TypeError or ValueError unless the operator accepts the mask. The constructor calls it.

        Call it again after a change to ``startend_row_indices`` in place.
        """
        values = self.startend_row_indices
        if not isinstance(values, np.ndarray):
            raise TypeError(f"startend_row_indices must be a numpy array, got {type(values).__name__}")
        if values.dtype != np.int32:
            raise TypeError(f"startend_row_indices must be int32, got {values.dtype}")
        if values.ndim != 4:
            raise ValueError(f"startend_row_indices must have shape [B, Hm, Sk, n], got {values.shape}")
        if not isinstance(self.causal, (bool, np.bool_)):
            raise TypeError(f"causal must be a bool, got {self.causal!r}")
        if (bool(self.causal), values.shape[3]) not in BOUND_NAMES:
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
        """Return the normal form that the kernels use, int32 [B, Hm, Sk, 6].

        Each key has its visible rows [begin, end), then up to two holes in them as begin, end. An absent range is
        (Sq, 0).
        """
        return _core.normal_form(self.startend_row_indices, self.causal, self.seqlen_q)

    @classmethod
    def _from_columns(cls, columns: np.ndarray, seqlen_q: int) -> ColumnMask:
        values, causal = _core.encode(columns, seqlen_q)
        return cls(values, causal, seqlen_q)

    def to_paddle(self) -> paddle.Tensor:
        """Return the int32 tensor [B, Hm, Sk, n] for ``flashmask_attention``; pass ``causal=mask.causal`` with it."""
        import paddle

        return paddle.to_tensor(self.startend_row_indices, dtype="int32")

    def to_dense(self) -> np.ndarray:
        """Return bool [B, Hm, Sq, Sk], True where the query (row) sees the key (column)."""
        return _core.to_dense(self.columns(), self.seqlen_q)

    @classmethod
    def from_dense(cls, dense: Any) -> ColumnMask:
        """Return the smallest column mask with exactly the visible pairs of ``dense``.

        Args:
            dense: bool array [Sq, Sk], [B, Sq, Sk] or [B, Hm, Sq, Sk], True where visible.

        Forms are tried from small to large: causal with n = 1, then n = 2 without and with causal, then n = 4.

        Raises:
            TypeError: not a bool array.
            ValueError: wrong number of dimensions, or a key is hidden from more than two intervals of queries; the
                message names the first such batch row, head and key column, and an order of rows that would do if
                ``masks.row_order`` finds one.
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
        try:
            columns = _core.columns_from_dense(dense)
        except ValueError as error:
            raise ValueError(f"{error}{_other_order(dense)}") from None
        return cls._from_columns(columns, dense.shape[2])

    def __and__(self, other: ColumnMask) -> ColumnMask:
        """Return the pairs that are visible in both masks, in the smallest form. Batch and head counts of 1 broadcast.

        Raises:
            ValueError: the lengths, batch or head counts differ, or a key would be hidden from more than two intervals
                of queries; the message names the first such batch row, head and key column.
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
        """Repeat the mask for ``batch`` rows and ``heads`` mask heads. ValueError unless each size fits or is 1."""
        batch, heads = integer("batch", batch), integer("heads", heads)
        shape = (batch, heads, *self.startend_row_indices.shape[2:])
        try:
            values = np.broadcast_to(self.startend_row_indices, shape)
        except ValueError:
            raise ValueError(f"cannot expand batch and heads {(self.batch, self.heads)} to {(batch, heads)}") from None
        return ColumnMask(np.ascontiguousarray(values), self.causal, self.seqlen_q)

    def statistics(self, tile_q: int = 128, tile_k: int = 128) -> MaskStatistics:
        """Count the visible pairs and the full, partial and empty ``tile_q`` x ``tile_k`` tiles of all rows and heads.

        The counts are exact. TypeError or ValueError unless both tile sides are integers of at least 1.
        """
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
        """Write a picture: queries down, keys across, visible pairs in colour (needs matplotlib).

        In a long sequence each pixel shows the visible share of a block of pairs.

        Args:
            path: file to write; its suffix selects the format (.png, .svg, .pdf).
            batch: batch row to draw.
            head: mask head to draw.
            tile: (tile_q, tile_k) draws tiles instead of pairs, coloured as full, partial or empty.
            title: text above the picture.

        Raises:
            ImportError: matplotlib is not installed.
            TypeError, ValueError: an empty mask, a batch row or head that does not exist, or a tile that is not a pair
                of integers of at least 1.
        """
        save_mask(self, path, batch=batch, head=head, tile=tile, title=title)

    def to_text(self, *, batch: int = 0, head: int = 0, width: int = 64) -> str:
        """Return a picture in characters: queries down, keys across, ``" ░▒▓█"`` from no visible pair to all.

        A character stands for a block of pairs, twice as many queries as keys.

        Args:
            batch: batch row to draw.
            head: mask head to draw.
            width: most characters of a line, at least 1.

        Raises:
            TypeError, ValueError: an empty mask, a batch row or head that does not exist, or a width below 1.
        """
        return mask_as_text(self, batch, head, integer("width", width, 1))

    def equivalent(self, other: ColumnMask) -> bool:
        """True if both masks have the same visible pairs, whatever their forms. TypeError for another type."""
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
            f"causal={self.causal}, values=({BOUND_NAMES[self.causal, self.startend_row_indices.shape[3]]}))"
        )


def _other_order(dense: np.ndarray) -> str:
    """End of an error message: an order of rows in which the first batch row that has no columns has them."""
    for row in dense:
        try:
            _core.columns_from_dense(row[None])
        except ValueError:
            order = row_order(row)
            if order is None:
                return ""
            text = order_text(order)
            return f"; with its rows in the order {text} each key is seen by one run of rows (masks.row_order)"
    return ""
