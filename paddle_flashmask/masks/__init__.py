"""Column-sparse attention masks: build them from documents, windows and prefixes, look at them, combine them.

Every builder returns a ``ColumnMask``. This package needs numpy alone; Paddle is imported by ``to_paddle`` only and
matplotlib by ``plot`` only.
"""

from .causal import causal
from .causal_blockwise import causal_blockwise
from .causal_document import causal_document
from .column_mask import ColumnMask
from .document import document
from .full import full
from .global_sliding_window import global_sliding_window
from .hash_sparse import hash_bucket_queries, hash_sparse
from .prefix_lm_causal import prefix_lm_causal
from .prefix_lm_document import prefix_lm_document
from .qk_sparse import qk_sparse
from .random_eviction import random_eviction
from .share_question import share_question
from .sliding_window import sliding_window
from .statistics import MaskStatistics

__all__ = [
    "ColumnMask",
    "MaskStatistics",
    "causal",
    "causal_blockwise",
    "causal_document",
    "document",
    "full",
    "global_sliding_window",
    "hash_bucket_queries",
    "hash_sparse",
    "prefix_lm_causal",
    "prefix_lm_document",
    "qk_sparse",
    "random_eviction",
    "share_question",
    "sliding_window",
]
