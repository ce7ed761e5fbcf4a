"""Masks of the paper (arXiv 2410.01359) with the documents that its kernel tables were measured on."""

from __future__ import annotations

import functools
import importlib
import json
import random
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DOCUMENTS = Path(__file__).resolve().parents[2] / "tests" / "data" / "paper_documents.json"
TILE = 128
_SAMPLE = 2  # of the five samples per length, as in benchmarks/cpu
NAMES = (
    "full",
    "causal",
    "sliding_window",
    "causal_document",
    "document",
    "share_question",
    "global_sliding_window",
    "causal_blockwise",
    "prefix_lm_document",
    "prefix_lm_causal",
    "qk_sparse",
    "random_eviction",
)


@dataclass(frozen=True)
class PaperMask:
    name: str
    seqlen: int
    columns: np.ndarray | None  # startend_row_indices int32 [1, 1, S, n]; None for full and causal
    causal: bool
    documents: tuple[int, ...] = ()  # lengths
    prefixes: tuple[int, ...] = ()
    questions: tuple[tuple[int, ...], ...] = ()  # lengths of each question and its answers, for share_question
    like: str = ""  # mask of the paper with the same form, for a mask with another name
    width: int = 0  # of the window masks, in tokens; 0: the paper's

    @property
    def form(self) -> str:
        """Name by which peers choose their call: of the paper's mask with this form."""
        return self.like or self.name

    @property
    def window(self) -> int:
        """Width of the window masks, in tokens."""
        return self.width or window_of(self.seqlen)

    @functools.cached_property
    def pairs(self) -> int:
        """Number of visible pairs of one head."""
        return sum(int(counts.sum()) for counts in self._visible_per_tile)

    @functools.cached_property
    def tile_efficiency(self) -> float:
        """Share of visible pairs in the live 128 x 128 tiles, which bounds every kernel with such tiles."""
        return self.pairs / (self._live_tiles * TILE * TILE)

    @functools.cached_property
    def live_tiles_per_row(self) -> float:
        """Average number of live tiles of a row of 128 queries."""
        return self._live_tiles / -(-self.seqlen // TILE)

    @functools.cached_property
    def partial_tiles(self) -> float:
        """Share of partial tiles among the live tiles."""
        full = sum(int(np.count_nonzero(counts == TILE * TILE)) for counts in self._visible_per_tile)
        return 1 - full / self._live_tiles

    @functools.cached_property
    def _live_tiles(self) -> int:
        return sum(int(np.count_nonzero(counts)) for counts in self._visible_per_tile)

    @functools.cached_property
    def _visible_per_tile(self) -> list[np.ndarray]:
        """Visible pairs of each tile of rows, for every tile of keys."""
        return [self._key_tile(key) for key in range(0, self.seqlen, TILE)]

    def _key_tile(self, first_key: int) -> np.ndarray:
        keys = np.arange(first_key, min(first_key + TILE, self.seqlen))
        begin = np.arange(0, self.seqlen, TILE)[None]
        end = np.minimum(begin + TILE, self.seqlen)
        hidden = [(start[:, None], stop[:, None]) for start, stop in self.hidden_intervals(keys)]
        visible = len(keys) * (end - begin)[0]
        # Union of up to three intervals by inclusion and exclusion; an intersection of intervals is an interval.
        for chosen in range(1, 1 << len(hidden)):
            members = [interval for index, interval in enumerate(hidden) if chosen >> index & 1]
            start = functools.reduce(np.maximum, [interval[0] for interval in members], begin)
            stop = functools.reduce(np.minimum, [interval[1] for interval in members], end)
            size = np.maximum(stop - start, 0).sum(axis=0)
            visible = visible - size if len(members) % 2 else visible + size
        return visible

    def hidden_intervals(self, keys: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Half-open intervals of rows hidden from each key, including the causal part."""
        top, bottom = np.zeros(len(keys), np.int64), np.full(len(keys), self.seqlen, np.int64)
        intervals = [(top, keys)] if self.causal else []
        if self.columns is None:
            return intervals
        channel = self.columns[0, 0, keys].astype(np.int64).T
        if len(channel) == 1:
            return [*intervals, (channel[0], bottom)]
        if len(channel) == 2:
            pairs = [(channel[0], channel[1])] if self.causal else [(channel[0], bottom), (top, channel[1])]
            return [*intervals, *pairs]
        return [*intervals, (channel[0], channel[1]), (channel[2], channel[3])]


def window_of(seqlen: int) -> int:
    return max(1, seqlen // 16)


def paper_mask(name: str, seqlen: int) -> PaperMask:
    """Mask by name. Lengths other than 8192, 32768 and 131072 scale the paper's documents of 8192 tokens."""
    lengths, prefixes, dropped = _documents(seqlen)
    masks = masks_package()
    window = window_of(seqlen)
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    questions = _questions(lengths)
    build = {
        "full": lambda: None,
        "causal": lambda: None,
        "sliding_window": lambda: masks.sliding_window(seqlen, window),
        "causal_document": lambda: masks.causal_document(lengths, seqlen),
        "document": lambda: masks.document(lengths, seqlen),
        "share_question": lambda: masks.share_question(questions, seqlen),
        "global_sliding_window": lambda: masks.global_sliding_window(seqlen, 16, (window, window)),
        "causal_blockwise": lambda: masks.causal_blockwise(lengths, seqlen),
        "prefix_lm_document": lambda: masks.prefix_lm_document(lengths, prefixes, seqlen),
        "prefix_lm_causal": lambda: masks.prefix_lm_causal(seqlen, seqlen // 2),
        "qk_sparse": lambda: masks.qk_sparse(seqlen, [(starts[index], lengths[index]) for index in dropped]),
        "random_eviction": lambda: masks.random_eviction(seqlen, seqlen // 2),
    }[name]
    mask = build()
    return PaperMask(
        name=name,
        seqlen=seqlen,
        columns=None if mask is None else mask.startend_row_indices,
        causal=name == "causal" if mask is None else bool(mask.causal),
        documents=tuple(lengths),
        prefixes=tuple(prefixes),
        questions=tuple(tuple(group) for group in questions),
    )


def masks_package() -> Any:
    """paddle_flashmask.masks. Without the compiled module, a stand-in lets its builders work."""
    package = importlib.import_module("paddle_flashmask")
    name = "paddle_flashmask._core"
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = package._core = types.ModuleType(name, "stand-in without the compiled functions")
    return importlib.import_module("paddle_flashmask.masks")


def _documents(seqlen: int) -> tuple[list[int], list[int], list[int]]:
    """Lengths, prefix lengths, and the indices of the documents that qk_sparse drops."""
    published = json.loads(DOCUMENTS.read_text())["sequence_lengths"]
    base = seqlen if str(seqlen) in published else 8192
    sample = published[str(base)]["samples"][_SAMPLE]
    lengths = [length * seqlen // base for _, length in sample["documents"]]
    lengths[-1] += seqlen - sum(lengths)
    prefixes = [prefix * seqlen // base for prefix, _ in sample["documents"]]
    return lengths, prefixes, sample["qk_sparse"]


def _questions(lengths: list[int]) -> list[list[int]]:
    """Question and two to six answers per document, of random lengths drawn as in the paper."""
    generator = random.Random(0)
    groups = []
    for length in lengths:
        parts = [1] * (generator.randint(2, 6) + 1)
        for _ in range(length - len(parts)):
            parts[generator.randint(0, len(parts) - 1)] += 1
        groups.append(parts)
    return groups
