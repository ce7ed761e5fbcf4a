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
        when: the case for which to choose this mask and not one like it, as a sentence of Markdown.
        used_by: models and methods with this mask, with links to their sources, as Markdown of docs/masks.md.
        typical: a call on 8192 tokens of the function that takes ``options``, for the statistics of docs/masks.md.
        command_example: a call of the function that takes ``options``, where that is not the builder.
    """

    example: Call
    source: str
    options: tuple[Option, ...]
    when: str
    used_by: str
    typical: Call
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


def _arxiv(title: str, number: str) -> str:
    return f"[{title}](https://arxiv.org/abs/{number})"


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

# Documents of 8192 tokens together: a sample of the paper's benchmark (section 5.1), also in benchmarks/cpu.
_SEQLEN = 8192
_LENGTHS = [1041, 2718, 1420, 1191, 1822]
_PREFIXES = [245, 737, 391, 275, 328]

MASKS = (
    MaskEntry(
        Call(full, 16, length=13),
        "arXiv 1706.03762, section 3.2.3",
        (SEQLEN, LENGTH),
        when="One text per row, read in both directions; `length` hides padding. For several texts: `document`.",
        used_by=f"{_arxiv('BERT', '1810.04805')}, {_arxiv('ViT', '2010.11929')}",
        typical=Call(full, _SEQLEN),
    ),
    MaskEntry(
        Call(causal, 16),
        _paper(1),
        (SEQLEN, LENGTH),
        when="One text per row, predicted token by token. For several texts: `causal_document`.",
        used_by=f"{_arxiv('GPT-3', '2005.14165')}, {_arxiv('Llama', '2302.13971')}",
        typical=Call(causal, _SEQLEN),
    ),
    MaskEntry(
        Call(sliding_window, 16, window=5),
        _paper(2),
        (SEQLEN, WINDOW, LENGTH),
        when="Layers with local attention on one text per row. For several texts: `sink_window_document`, `sink=0`.",
        used_by=f"{_arxiv('Mistral 7B', '2310.06825')}, every other layer of {_arxiv('Gemma 2', '2408.00118')}",
        typical=Call(sliding_window, _SEQLEN, window=512),
    ),
    MaskEntry(
        Call(causal_document, [6, 4, 6]),
        _paper(3),
        (DOCUMENTS, SEQLEN, PADDING),
        when="Several texts in one row instead of padding: the mask of `paddle-flashmask train` for instructions.",
        used_by=f"pre-training of {_arxiv('Llama 3', '2407.21783')} (section 3.2), [SFT here](training/sft.md)",
        typical=Call(causal_document, _LENGTHS),
    ),
    MaskEntry(
        Call(document, [6, 4, 6]),
        _paper(4),
        (DOCUMENTS, SEQLEN, PADDING),
        when="Several texts or images in one row, each read in both directions.",
        used_by=f"{_arxiv('NaViT', '2307.06304')}",
        typical=Call(document, _LENGTHS),
    ),
    MaskEntry(
        Call(share_question, [[3, 3, 3], [3, 2, 2]]),
        _paper(5),
        (GROUPS, SEQLEN, PADDING),
        when="Several answers to a question in one row, with the question once. For answers that share more than the "
        "question: `prefix_tree`.",
        used_by="[DPO](training/dpo.md), [reward models](training/rm.md) and [KTO](training/kto.md) here",
        typical=Call(share_question, [[2048, 512, 512, 512, 512], [2048, 512, 512, 512, 512]]),
    ),
    MaskEntry(
        Call(global_sliding_window, 16, global_tokens=2, window=2),
        _paper(6),
        (SEQLEN, GLOBAL_TOKENS, WINDOW_SIDES, LENGTH),
        when="Long texts read in both directions, where a few tokens collect what the windows do not reach.",
        used_by=f"{_arxiv('Longformer', '2004.05150')}; {_arxiv('BigBird', '2007.14062')} with random blocks besides",
        typical=Call(global_sliding_window, _SEQLEN, global_tokens=16, window=512),
    ),
    MaskEntry(
        Call(causal_blockwise, [5, 5, 6]),
        _paper(7),
        (DOCUMENTS, SEQLEN),
        when="Many demonstrations before one test, each encoded on its own.",
        used_by=f"{_arxiv('in-context learning with long-context models', '2405.00200')}",
        typical=Call(causal_blockwise, _LENGTHS),
    ),
    MaskEntry(
        Call(prefix_lm_document, [7, 9], prefixes=[3, 4]),
        _paper(8),
        (DOCUMENTS, PREFIXES, SEQLEN, PADDING),
        when="Several prompts with answers in one row, where a prompt is read in both directions.",
        used_by="`attention_mask_type` of [SFT here](training/sft.md); "
        f"the mask within a document is that of {_arxiv('PaliGemma', '2407.07726')}",
        typical=Call(prefix_lm_document, _LENGTHS, prefixes=_PREFIXES),
    ),
    MaskEntry(
        Call(prefix_lm_causal, 16, prefix=6),
        _paper(9),
        (SEQLEN, PREFIX, LENGTH),
        when="One prompt with its answer per row, where the prompt is read in both directions.",
        used_by=f"{_arxiv('PaliGemma', '2407.07726')}, and the prefix language models that "
        f"{_arxiv('T5', '1910.10683')} is compared with (section 3.2.1)",
        typical=Call(prefix_lm_causal, _SEQLEN, prefix=4096),
    ),
    MaskEntry(
        Call(qk_sparse, 16, dropped=[(3, 4), (10, 3)]),
        _paper(10),
        (SEQLEN, DROPPED, LENGTH),
        when="Causal attention without some spans of pairs, for sparse attention by dropped queries and keys.",
        used_by=f"{_arxiv('sparse flash attention', '2306.01160')}",
        typical=Call(qk_sparse, _SEQLEN, dropped=[(1041, 2718), (3759, 1420)]),
    ),
    MaskEntry(
        Call(hash_sparse, _FIRST_QUERY, _END_QUERY),
        _paper(11),
        (SEQLEN, BUCKETS, SEED),
        when="Attention among tokens with the same hash, after queries and keys are sorted by it.",
        used_by=f"{_arxiv('Reformer', '2001.04451')}, {_arxiv('sparse flash attention', '2306.01160')}",
        typical=Call(hash_random_tokens, _SEQLEN, buckets=16),
        command_example=Call(hash_random_tokens, 16, buckets=4),
    ),
    MaskEntry(
        Call(random_eviction, 16, start=8, seed=1),
        _paper(12),
        (SEQLEN, START, SEED),
        when="Training for inference with a cache of fixed size.",
        used_by=f"the random part of the evictions of {_arxiv('NACL', '2408.03675')}",
        typical=Call(random_eviction, _SEQLEN, start=4096),
    ),
    MaskEntry(
        Call(prefix_tree, [-1, 0, 1, 1, 0], [4, 3, 3, 2, 4]),
        "arXiv 2511.00413",
        (PARENTS, NODE_LENGTHS, SEQLEN, PADDING),
        when="Sequences that begin alike, at any depth: rollouts of a prompt, rounds of a conversation.",
        used_by=f"{_arxiv('Tree Training', '2511.00413')}, [policy gradients here](training/policy.md)",
        typical=Call(prefix_tree, [-1, 0, 1, 1, 0, 4, 4], [2048, 1024, 1024, 1024, 1024, 1024, 1024]),
    ),
    MaskEntry(
        Call(sink_window_document, [10, 6], sink=2, window=3),
        "arXiv 2309.17453",
        (DOCUMENTS, SINK, WINDOW, SEQLEN, PADDING),
        when="Several texts in one row, with local attention and the first tokens of each text always visible.",
        used_by=f"{_arxiv('StreamingLLM', '2309.17453')}",
        typical=Call(sink_window_document, _LENGTHS, sink=4, window=512),
    ),
    MaskEntry(
        Call(chunked_document, [10, 6], chunk=4),
        "Llama 4, attention_chunk_size",
        (DOCUMENTS, CHUNK, SEQLEN, PADDING),
        when="Models whose layers attend within chunks, on several texts in one row.",
        used_by="the layers with positions of "
        "[Llama 4](https://huggingface.co/docs/transformers/model_doc/llama4) (`attention_chunk_size`)",
        typical=Call(chunked_document, _LENGTHS, chunk=512),
    ),
    MaskEntry(
        Call(image_spans, [9, 7], spans=[(2, 5), (11, 4)], window=3),
        "arXiv 2503.19786",
        (DOCUMENTS, SPANS, WINDOW, SEQLEN, PADDING),
        when="Texts with images as spans of tokens, where the tokens of an image see each other.",
        used_by=f"{_arxiv('Gemma 3', '2503.19786')}",
        typical=Call(image_spans, _LENGTHS, spans=[(100, 256), (1200, 256), (4000, 256)]),
    ),
    MaskEntry(
        Call(block_diffusion, [5, 3], block=2),
        "arXiv 2503.09573",
        (DOCUMENTS, BLOCK, SEQLEN),
        when="Diffusion within blocks of text, with the clean text as context.",
        used_by=f"{_arxiv('BD3-LM', '2503.09573')}",
        typical=Call(block_diffusion, [1041, 1420, 1635], block=32),
    ),
    MaskEntry(
        Call(draft_training, [5, 3], step=2),
        "arXiv 2503.01840",
        (DOCUMENTS, STEP, SEQLEN),
        when="Draft models that are trained on their own outputs of earlier steps. It has more keys than queries.",
        used_by=f"{_arxiv('EAGLE-3', '2503.01840')}",
        typical=Call(draft_training, _LENGTHS, step=2),
    ),
    MaskEntry(
        Call(multi_token_prediction, [9, 7], depth=2, window=4),
        "arXiv 2412.19437, section 2.2",
        (DOCUMENTS, DEPTH, WINDOW, SEQLEN),
        when="Further tokens predicted by modules behind the model, on several texts in one row.",
        used_by=f"{_arxiv('DeepSeek-V3', '2412.19437')}",
        typical=Call(multi_token_prediction, _LENGTHS, depth=1),
    ),
)
