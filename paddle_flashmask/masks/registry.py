"""The registry of masks: one row per builder, for the command line, the pictures, docs/masks.md and the tests.

A new mask is a module with its builder and, here, its import, its name in ``__all__`` and its row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._options import (
    DOCUMENTS,
    INTEGER,
    INTEGER_OR_PAIR,
    INTEGERS,
    LENGTH,
    LISTS,
    PADDING,
    PAIRS,
    SEED,
    SEQLEN,
    Option,
)
from .block_diffusion import block_diffusion
from .causal import causal
from .causal_blockwise import causal_blockwise
from .causal_document import causal_document
from .chunked_document import chunked_document
from .column_mask import ColumnMask
from .document import document
from .draft_training import draft_training
from .full import full
from .global_sliding_window import global_sliding_window
from .hash_sparse import hash_random_tokens, hash_sparse
from .image_spans import image_spans
from .multi_token_prediction import multi_token_prediction
from .prefix_lm_causal import prefix_lm_causal
from .prefix_lm_document import prefix_lm_document
from .prefix_tree import prefix_tree
from .qk_sparse import qk_sparse
from .random_eviction import random_eviction
from .share_question import share_question
from .sink_window_document import sink_window_document
from .sliding_window import sliding_window

__all__ = [
    "block_diffusion",
    "causal",
    "causal_blockwise",
    "causal_document",
    "chunked_document",
    "document",
    "draft_training",
    "full",
    "global_sliding_window",
    "hash_sparse",
    "image_spans",
    "multi_token_prediction",
    "prefix_lm_causal",
    "prefix_lm_document",
    "prefix_tree",
    "qk_sparse",
    "random_eviction",
    "share_question",
    "sink_window_document",
    "sliding_window",
]


class Call:
    """A builder with arguments, as an example: ``Call(causal, 16)``."""

    def __init__(self, builder: Callable[..., ColumnMask], *args: Any, **kwargs: Any) -> None:
        self.builder = builder
        self._args = args
        self._kwargs = kwargs

    def build(self) -> ColumnMask:
        return self.builder(*self._args, **self._kwargs)

    @property
    def arguments(self) -> dict[str, Any]:
        """The given arguments by parameter name."""
        return inspect.signature(self.builder).bind(*self._args, **self._kwargs).arguments

    @property
    def texts(self) -> list[str]:
        """The given arguments as source text."""
        return [*map(repr, self._args), *(f"{name}={value!r}" for name, value in self._kwargs.items())]


@dataclass(frozen=True)
class MaskEntry:
    """One row of the registry.

    Attributes:
        example: a call of the builder on about 16 tokens.
        source: where the mask comes from; the builder's docstring cites it too.
        options: the options of ``paddle-flashmask mask``, in the order of its help.
        command_example: a call of the function that takes ``options``, where that is not the builder.
    """

    example: Call
    source: str
    options: tuple[Option, ...]
    command_example: Call | None = None

    @property
    def name(self) -> str:
        return self.builder.__name__

    @property
    def builder(self) -> Callable[..., ColumnMask]:
        return self.example.builder

    @property
    def command(self) -> Call:
        """A call of the function that takes ``options``."""
        return self.command_example or self.example

    def is_required(self, option: Option) -> bool:
        """True if the command's function has no default for the option's parameter."""
        parameter = inspect.signature(self.command.builder).parameters[option.parameter]
        return parameter.default is inspect.Parameter.empty


def _paper(mask: int) -> str:
    return f"arXiv 2410.01359, figure 1, mask {mask}"


GROUPS = Option("docs", "groups", LISTS, "Question and answer lengths.")
PREFIX = Option("prefix", "prefix", INTEGER, "Prefix length.")
PREFIXES = Option("prefix", "prefixes", INTEGERS, "Prefix length of each document.")
WINDOW = Option("window", "window", INTEGER, "Keys that a query sees, itself included.")
WINDOW_SIDES = Option("window", "window", INTEGER_OR_PAIR, "Keys on each side of a query (L,R: left and right).")
GLOBAL_TOKENS = Option("global-tokens", "global_tokens", INTEGER, "Leading tokens that see and are seen by all.")
DROPPED = Option("dropped", "dropped", PAIRS, "offset:length of each span.")
BUCKETS = Option("buckets", "buckets", INTEGER, "Number of hash buckets.")
PARENTS = Option("parents", "parents", INTEGERS, "Parent of each node, -1 for a root.")
NODE_LENGTHS = Option("lengths", "lengths", INTEGERS, "Tokens of each node.")
SINK = Option("sink", "sink", INTEGER, "Leading tokens of a document that all its later tokens see.")
CHUNK = Option("chunk", "chunk", INTEGER, "Tokens of a chunk.")
SPANS = Option("spans", "spans", PAIRS, "offset:length of each image.")
BLOCK = Option("block", "block", INTEGER, "Tokens of a block.")
DEPTH = Option("depth", "depth", INTEGER, "Depth of the module, from 0.")
STEP = Option("step", "step", INTEGER, "Draft step, from 0.")
START = Option("start", "start", INTEGER, "Cache size, the first row that evicts.")

# The runs of 16 tokens in 4 hash buckets, causal by the positions before sorting.
_FIRST_QUERY = [1, 1, 3, 5, 5, 7, 9, 9, 9, 11, 11, 15, 15, 15, 15, 16]
_END_QUERY = [5, 5, 5, 9, 9, 9, 9, 9, 15, 15, 15, 15, 16, 16, 16, 16]

MASKS = (
    MaskEntry(Call(full, 16, length=13), "arXiv 1706.03762, section 3.2.3", (SEQLEN, LENGTH)),
    MaskEntry(Call(causal, 16), _paper(1), (SEQLEN, LENGTH)),
    MaskEntry(Call(sliding_window, 16, window=5), _paper(2), (SEQLEN, WINDOW, LENGTH)),
    MaskEntry(Call(causal_document, [6, 4, 6]), _paper(3), (DOCUMENTS, SEQLEN, PADDING)),
    MaskEntry(Call(document, [6, 4, 6]), _paper(4), (DOCUMENTS, SEQLEN, PADDING)),
    MaskEntry(Call(share_question, [[3, 3, 3], [3, 2, 2]]), _paper(5), (GROUPS, SEQLEN, PADDING)),
    MaskEntry(
        Call(global_sliding_window, 16, global_tokens=2, window=2),
        _paper(6),
        (SEQLEN, GLOBAL_TOKENS, WINDOW_SIDES, LENGTH),
    ),
    MaskEntry(Call(causal_blockwise, [5, 5, 6]), _paper(7), (DOCUMENTS, SEQLEN)),
    MaskEntry(Call(prefix_lm_document, [7, 9], prefixes=[3, 4]), _paper(8), (DOCUMENTS, PREFIXES, SEQLEN, PADDING)),
    MaskEntry(Call(prefix_lm_causal, 16, prefix=6), _paper(9), (SEQLEN, PREFIX, LENGTH)),
    MaskEntry(Call(qk_sparse, 16, dropped=[(3, 4), (10, 3)]), _paper(10), (SEQLEN, DROPPED, LENGTH)),
    MaskEntry(
        Call(hash_sparse, _FIRST_QUERY, _END_QUERY),
        _paper(11),
        (SEQLEN, BUCKETS, SEED),
        command_example=Call(hash_random_tokens, 16, buckets=4),
    ),
    MaskEntry(Call(random_eviction, 16, start=8, seed=1), _paper(12), (SEQLEN, START, SEED)),
    MaskEntry(
        Call(prefix_tree, [-1, 0, 1, 1, 0], [4, 3, 3, 2, 4]),
        "arXiv 2511.00413",
        (PARENTS, NODE_LENGTHS, SEQLEN, PADDING),
    ),
    MaskEntry(
        Call(sink_window_document, [10, 6], sink=2, window=3),
        "arXiv 2309.17453",
        (DOCUMENTS, SINK, WINDOW, SEQLEN, PADDING),
    ),
    MaskEntry(
        Call(chunked_document, [10, 6], chunk=4),
        "Llama 4, attention_chunk_size",
        (DOCUMENTS, CHUNK, SEQLEN, PADDING),
    ),
    MaskEntry(
        Call(image_spans, [9, 7], spans=[(2, 5), (11, 4)], window=3),
        "arXiv 2503.19786",
        (DOCUMENTS, SPANS, WINDOW, SEQLEN, PADDING),
    ),
    MaskEntry(Call(block_diffusion, [5, 3], block=2), "arXiv 2503.09573", (DOCUMENTS, BLOCK, SEQLEN)),
    MaskEntry(Call(draft_training, [5, 3], step=2), "arXiv 2503.01840", (DOCUMENTS, STEP, SEQLEN)),
    MaskEntry(
        Call(multi_token_prediction, [9, 7], depth=2, window=4),
        "arXiv 2412.19437, section 2.2",
        (DOCUMENTS, DEPTH, WINDOW, SEQLEN),
    ),
)
