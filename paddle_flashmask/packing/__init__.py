"""Tokenised samples to packed training batches with column masks. NumPy only, so it runs in data-loader workers.

A pack is several documents laid end to end in one sequence of at most `max_length` tokens. Position ids restart at
every document, and the mask columns let each document see only itself (causally).
"""

from __future__ import annotations

from .collate import SFTCollator
from .packs import IGNORED_LABEL, Pack, PackingReport
from .plan import ORDERS, plan_packs
from .sft import TOO_LONG_RULES, PackedSFT, PackedStream, pack_sft, stream_sft

__all__ = [
    "IGNORED_LABEL",
    "ORDERS",
    "TOO_LONG_RULES",
    "Pack",
    "PackedSFT",
    "PackedStream",
    "PackingReport",
    "SFTCollator",
    "pack_sft",
    "plan_packs",
    "stream_sft",
]
