"""Positions and labels of a batch, checked place by place without a model."""

from __future__ import annotations

import numpy as np

from paddle_flashmask.packing import IGNORED_LABEL

from .layout import Segment
from .outputs import ANSWER_PLACES, Batch, array
from .report import Check

POSITIONS = "positions restart in every document"
LABELS = "labels are the next tokens"
SCORED = "scores are read at the last token"


def check_positions_restart(batch: Batch, segments: list[Segment]) -> Check:
    """Positions count from 0 in every document, and in an answer or a branch go on from those that it continues.

    Without position_ids the model counts over the whole row.
    """
    ids = array(batch["input_ids"])
    given = batch.get("position_ids")
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape) if given is None else array(given)
    checked = wrong = 0
    for segment in (segment for segment in segments if not segment.padding):
        found = positions[segment.row, segment.start : segment.end]
        checked += len(segment)
        wrong += int((found != segment.first + np.arange(len(segment))).sum())
    return Check(POSITIONS, checked, wrong)


def check_next_tokens(ids: np.ndarray, labels: np.ndarray, segments: list[Segment]) -> Check:
    """Every label is the token at the next place of its segment, and none stands in padding.

    The last label of a segment has no next place and is not checked here.
    """
    checked = wrong = 0
    for segment in filter(len, segments):
        own = labels[segment.row, segment.start : segment.end]
        if segment.padding:
            wrong += int((own != IGNORED_LABEL).sum())
            continue
        given = own[:-1] != IGNORED_LABEL
        following = ids[segment.row, segment.start + 1 : segment.end]
        checked += int(given.sum())
        wrong += int((given & (own[:-1] != following)).sum())
    return Check(LABELS, checked, wrong)


def check_scored_places(batch: Batch, segments: list[Segment]) -> Check:
    """The answer_places of a reward model are the last tokens of all answers.

    Every leaf is the end of an answer. In a prefix tree, a later round may go on from an answer, whose end is then an
    inner place that is not known here.
    """
    given = {tuple(place) for place in array(batch[ANSWER_PLACES])[:, :2].tolist()}
    inner = {segment.parent for segment in segments}
    leaves = {(s.row, s.end - 1) for number, s in enumerate(segments) if number not in inner and not s.padding}
    missing = len(leaves - given)
    has_rounds = any(segment.level > 1 for segment in segments)
    return Check(SCORED, len(leaves), missing if has_rounds else max(missing, len(given - leaves)))


def next_token_labels(ids: np.ndarray, segments: list[Segment]) -> np.ndarray:
    """Labels for a batch without any: the next token everywhere within a text or an answer."""
    labels = np.full_like(ids, IGNORED_LABEL)
    for segment in (segment for segment in segments if len(segment) and not segment.padding):
        labels[segment.row, segment.start : segment.end - 1] = ids[segment.row, segment.start + 1 : segment.end]
    return labels
