"""Packing of tokenised samples into training batches with column masks. NumPy only: it runs in data-loader workers.

A pack is a sequence of at most `max_length` tokens that holds several documents end to end. Position ids restart at
every document, and the mask hides other documents; attention within a document is causal by default. A document is a
text (SFT), a question with its answers (DPO, reward models, KTO), which see the question but not each other, or a tree
of sequences or answers that share prefixes.
"""

from __future__ import annotations

from .answer_tree import AnswerTreePack
from .answers import AnswerPack
from .attention import IGNORED_LABEL, DocumentAttention
from .collate import KTOCollator, PreferenceCollator, RewardCollator, RolloutCollator, SFTCollator
from .packed import TOO_LONG_RULES, PackedRows, PackedStream
from .packs import Pack, PackingReport
from .plan import ORDERS, plan_packs
from .preference import pack_kto, pack_preference, pack_reward, stream_answers, with_kl_answers
from .sft import pack_sft, stream_sft
from .tree import LabelValues, TreePack, pack_tree, stream_tree
from .tree_layout import TreeLayout, TreeReport

__all__ = [
    "IGNORED_LABEL",
    "ORDERS",
    "TOO_LONG_RULES",
    "AnswerPack",
    "AnswerTreePack",
    "DocumentAttention",
    "KTOCollator",
    "LabelValues",
    "Pack",
    "PackedRows",
    "PackedStream",
    "PackingReport",
    "PreferenceCollator",
    "RewardCollator",
    "RolloutCollator",
    "SFTCollator",
    "TreeLayout",
    "TreePack",
    "TreeReport",
    "pack_kto",
    "pack_preference",
    "pack_reward",
    "pack_sft",
    "pack_tree",
    "plan_packs",
    "stream_answers",
    "stream_sft",
    "stream_tree",
    "with_kl_answers",
]
