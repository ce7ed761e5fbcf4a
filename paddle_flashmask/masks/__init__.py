"""Column-sparse attention masks: builders from documents, windows and prefixes, combination, statistics, pictures.

Every builder returns a ``ColumnMask``. This package imports NumPy alone; ``to_paddle`` imports Paddle, and ``plot``
imports matplotlib.
"""

from . import registry
from .column_mask import ColumnMask
from .hash_sparse import hash_bucket_queries
from .registry import *  # noqa: F403
from .statistics import MaskStatistics

__all__ = ["ColumnMask", "MaskStatistics", "hash_bucket_queries"]
__all__ += registry.__all__
