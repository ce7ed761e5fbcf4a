"""Losses of packed documents beside those of every document alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from paddle_flashmask.packing import IGNORED_LABEL, DocumentAttention

from ..token_loss import TokenLoss
from .layout import Path, Segment, paths_of, places_of
from .outputs import ANSWER_PLACES, Batch, array, eager_attention, row_outputs
from .report import Check

LOSSES = "losses are those of every row alone"
OUTPUTS = "outputs are those of every row alone"
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest accepted differences by the precision of the model: |packed - alone| / max(1, |alone|) of a loss, and of the
outputs of a row the length of their difference relative to their own."""


def compare_with_alone(
    model: Any,
    batch: Batch,
    outputs: paddle.Tensor,
    labels: np.ndarray,
    segments: Sequence[Segment],
    attention: DocumentAttention,
    tolerance: float,
) -> list[Check]:
    """Run every text, every answer with its question, and every path of a tree as a batch of one row.

    A row alone has no column mask and no position ids: PaddleNLP's eager attention and the model's own positions. Where
    `attention` is not plain causal it has the dense mask of its kind, but columns in Mistral, which makes dense masks
    causal.

    outputs: of the packed batch, [B, S, V]. labels: int64 [B, S]. A segment that several rows share is compared in the
    first. Its loss is the mean over its labels, or for a reward model the score of the answer.
    """
    losses, vectors = _Differences(), _Differences()
    for path in paths_of(segments):
        alone = _run_alone(model, batch, path, labels, attention)
        for segment in filter(len, path.own):
            apart = alone[segment.first : segment.first + len(segment)]
            together = outputs[segment.row, segment.start : segment.end]
            length = float(apart.norm())
            vectors.add(float((together - apart).norm()) / length if length else float(together.norm()), tolerance)
            targets = labels[segment.row, segment.start : segment.end]
            if ANSWER_PLACES not in batch and (targets != IGNORED_LABEL).any():
                losses.compare(_mean_loss(together, targets), _mean_loss(apart, targets), tolerance)
            elif ANSWER_PLACES in batch and segment is path.leaf:
                losses.compare(float(together[-1, 0]), float(apart[-1, 0]), tolerance)
    return [losses.check(LOSSES, tolerance), vectors.check(OUTPUTS, tolerance)]


@dataclass
class _Differences:
    checked: int = 0
    wrong: int = 0
    largest: float = 0.0

    def compare(self, found: float, expected: float, tolerance: float) -> None:
        self.add(abs(found - expected) / max(1.0, abs(expected)), tolerance)

    def add(self, difference: float, tolerance: float) -> None:
        self.checked += 1
        if not difference <= tolerance:  # NaN as well
            self.wrong += 1
        self.largest = max(self.largest, difference) if math.isfinite(difference) else math.inf

    def check(self, name: str, tolerance: float) -> Check:
        detail = f"largest difference {self.largest:.1e}, tolerance {tolerance:.0e}"
        return Check(name, self.checked, self.wrong, detail)


def _run_alone(model: Any, batch: Batch, path: Path, labels: np.ndarray, attention: DocumentAttention) -> paddle.Tensor:
    """Outputs [T, V] of a path as a sequence of its own."""
    row, places = path.leaf.row, places_of(path.segments)[:, 1]
    alone: dict[str, Any] = {"input_ids": array(batch["input_ids"])[row, places][None]}
    if ANSWER_PLACES in batch:
        alone[ANSWER_PLACES] = ()
    own_labels = labels[row, places]
    if not attention.causal and model.config.model_type == "mistral":
        columns = attention.columns(np.array([len(places)]), own_labels)
        alone["attn_mask_startend_row_indices"] = columns[None, None]
    elif attention.kind != "causal_document":
        alone["attention_mask"] = _mask(attention, own_labels)[None, None]
    with eager_attention(model):
        return row_outputs(model, alone)[0]


def _mean_loss(rows: paddle.Tensor, targets: np.ndarray) -> float:
    places = np.flatnonzero(targets != IGNORED_LABEL)
    losses = TokenLoss()(rows.index_select(paddle.to_tensor(places)), paddle.to_tensor(targets[places][:, None]))
    return float(losses.numpy().mean(dtype=np.float64))


def _mask(attention: DocumentAttention, labels: np.ndarray) -> np.ndarray:
    """bool [T, T], True for visible pairs, of one document."""
    size = len(labels)
    query, key = np.arange(size)[:, None], np.arange(size)[None, :]
    if attention.kind == "sliding_window":
        return (key <= query) & (key > query - attention.window)
    if attention.kind == "document":
        return np.ones((size, size), dtype=bool)
    scored = np.flatnonzero(labels != IGNORED_LABEL)
    prefix = scored[0] + 1 if len(scored) else size
    return (key <= query) | (key < prefix)
