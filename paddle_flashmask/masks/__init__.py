"""Column-sparse attention masks: builders from documents, windows and prefixes, combination, statistics, pictures.

Every builder returns a ``ColumnMask``. This package imports NumPy alone; ``to_paddle`` imports Paddle, and ``plot``
imports matplotlib.
"""

from . import registry
from .block_diffusion import block_diffusion_order
from .column_mask import ColumnMask
from .hash_sparse import hash_bucket_queries
from .prefix_tree import depth_first_order
from .registry import *  # noqa: F403
from .row_order import row_order
from .statistics import MaskStatistics

__all__ = [
    "ColumnMask",
    "MaskStatistics",
    "block_diffusion_order",
    "depth_first_order",
    "hash_bucket_queries",
    "row_order",
]
__all__ += registry.__all__
