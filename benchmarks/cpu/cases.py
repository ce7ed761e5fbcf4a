"""Masks of the paper (arXiv 2410.01359, section 5.1) at one sequence length."""

from __future__ import annotations

from collections.abc import Callable

from paddle_flashmask import masks
from paddle_flashmask.masks import ColumnMask

# (prefix, length) of the documents of the paper's third sample at 8192 tokens, and which of them QK-sparse drops.
DOCUMENTS_8K = ((245, 1041), (737, 2718), (391, 1420), (275, 1191), (328, 1822))
DROPPED = (False, True, True, False, False)
PAPER_LENGTH = 8192


def _scaled(seqlen: int) -> tuple[list[int], list[int]]:
    """Scaled document and prefix lengths; the last document absorbs the rounding."""
    lengths = [length * seqlen // PAPER_LENGTH for _, length in DOCUMENTS_8K]
    lengths[-1] += seqlen - sum(lengths)
    return lengths, [prefix * seqlen // PAPER_LENGTH for prefix, _ in DOCUMENTS_8K]


def _dropped_spans(lengths: list[int]) -> list[tuple[int, int]]:
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    return [(start, length) for start, length, drop in zip(starts, lengths, DROPPED, strict=True) if drop]


def _question_and_answers(lengths: list[int]) -> list[list[int]]:
    """Each document as a question of half its length and four answers that share the rest."""
    groups = []
    for length in lengths:
        question = length // 2
        answers = [(length - question) // 4] * 4
        answers[-1] += length - question - sum(answers)
        groups.append([question, *answers])
    return groups


def paper_masks(seqlen: int) -> dict[str, ColumnMask]:
    """Masks by name. As in the paper, windows are a sixteenth of the sequence, and eviction starts at half of it."""
    lengths, prefixes = _scaled(seqlen)
    window = seqlen // 16
    builders: dict[str, Callable[[], ColumnMask]] = {
        "full": lambda: masks.full(seqlen),
        "causal": lambda: masks.causal(seqlen),
        "sliding_window": lambda: masks.sliding_window(seqlen, window),
        "causal_document": lambda: masks.causal_document(lengths, seqlen),
        "document": lambda: masks.document(lengths, seqlen),
        "share_question": lambda: masks.share_question(_question_and_answers(lengths), seqlen),
        "global_sliding_window": lambda: masks.global_sliding_window(seqlen, 16, (window, window)),
        "causal_blockwise": lambda: masks.causal_blockwise(lengths, seqlen),
        "prefix_lm_document": lambda: masks.prefix_lm_document(lengths, prefixes, seqlen),
        "prefix_lm_causal": lambda: masks.prefix_lm_causal(seqlen, seqlen // 2),
        "qk_sparse": lambda: masks.qk_sparse(seqlen, _dropped_spans(lengths)),
        "random_eviction": lambda: masks.random_eviction(seqlen, seqlen // 2),
    }
    return {name: build() for name, build in builders.items()}
