"""Checks of one batch on a model: the public function for a script of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paddle_flashmask.packing import DocumentAttention

from .alone import TOLERANCES, compare_with_alone
from .layout import Document, segments_of
from .leaks import BRANCHES, DOCUMENTS, FUTURE, branch_trials, document_trials, find_leaks, future_trials
from .outputs import ANSWER_PLACES, Batch, array, evaluating, row_outputs
from .report import Check, Report
from .structure import check_next_tokens, check_positions_restart, check_scored_places, next_token_labels

CAUSAL = DocumentAttention()


def verify(
    model: Any,
    batch: Batch,
    documents: Sequence[Sequence[Document]],
    *,
    attention: DocumentAttention = CAUSAL,
    tolerance: float | None = None,
) -> Report:
    """Check that the documents of a batch do not reach each other in a model.

    Args:
        model: a PaddleNLP language model, after `paddle_flashmask.enable()` where it needs that. It runs in evaluation
            mode, about 2 log2(documents) times on the batch and once on each document.
        batch: arrays or tensors, as the model takes them: `input_ids` and `position_ids`, int64 [B, S], with
            `attn_mask_startend_row_indices` or `attention_mask`; and optionally `labels`, int64 [B, S], already shifted
            (-100: none), without which the next tokens are the labels. A reward model's batch has `answer_places`.
        documents: for every batch row the lengths of its documents in order, each an integer, or [question, answer,
            ...] for a question with answers; an answer may branch again, as in a prefix tree. Places after them are
            padding.
        attention: attention within each document.
        tolerance: largest accepted difference from a row alone, as in `TOLERANCES`, which has the default for the
            model's precision.

    Returns:
        A `Report`: outputs that changed by a bit because a token changed in another document, in another answer or
        branch, or later in the same text; losses and outputs that are not those of the row alone; positions that do not
        restart; labels that are not the next tokens. In models with experts the bits depend on how many tokens an
        expert gets, so changes within the tolerance do not count.

    Raises:
        ValueError: lengths that do not fit the batch.
    """
    ids = array(batch["input_ids"])
    if len(documents) != len(ids):
        raise ValueError(f"documents are given for {len(documents)} batch rows, input_ids have {len(ids)}")
    segments = segments_of(documents, ids.shape[1])
    given = batch.get("labels")
    labels = next_token_labels(ids, segments) if given is None else array(given)
    with evaluating(model):
        outputs = row_outputs(model, batch)
        tolerance = tolerance if tolerance is not None else _tolerance(model)
        trials = {DOCUMENTS: document_trials(segments)}
        if any(segment.level for segment in segments):
            trials[BRANCHES] = branch_trials(segments)
        if attention.causal:
            trials[FUTURE] = future_trials(segments)
        allowed = tolerance if _has_experts(model) else 0.0
        checks = [find_leaks(name, model, batch, outputs, each, allowed) for name, each in trials.items()]
        checks.extend(compare_with_alone(model, batch, outputs, labels, segments, attention, tolerance))
    return Report((*checks, *check_structure({**batch, "labels": given}, documents)))


def check_structure(batch: Batch, documents: Sequence[Sequence[Document]]) -> list[Check]:
    """The checks of positions and labels, which need no model. Arguments as for `verify`."""
    ids = array(batch["input_ids"])
    segments = segments_of(documents, ids.shape[1])
    checks = [check_positions_restart(batch, segments)]
    if batch.get("labels") is not None:
        checks.append(check_next_tokens(ids, array(batch["labels"]), segments))
    if ANSWER_PLACES in batch:
        checks.append(check_scored_places(batch, segments))
    return checks


def _tolerance(model: Any) -> float:
    precisions = {str(parameter.dtype).removeprefix("paddle.") for parameter in model.parameters()}
    return max(TOLERANCES.get(precision, TOLERANCES["float32"]) for precision in precisions)


def _has_experts(model: Any) -> bool:
    """Whether the size of a matrix product, and with it its rounding, depends on how tokens fall to experts."""
    config = getattr(model, "config", None)
    return any(getattr(config, key, None) for key in ("num_experts", "n_routed_experts", "num_local_experts"))
