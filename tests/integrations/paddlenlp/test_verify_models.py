"""`verify` as a function, on a script's own model."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_cases import GROUPS, LENGTH, MODELS, ROWS, batch_of, build

import paddle_flashmask
from paddle_flashmask import masks
from paddle_flashmask.integrations.paddlenlp.verification import alone, leaks, structure
from paddle_flashmask.integrations.paddlenlp.verification.layout import segments_of
from paddle_flashmask.integrations.paddlenlp.verification.verify import verify
from paddle_flashmask.packing import DocumentAttention

CAUSAL, SHARED = "causal documents, n=1", "share question, n=1"


def inputs(kind: str) -> dict[str, np.ndarray]:
    batch = batch_of(kind)
    columns = batch.mask.startend_row_indices
    return {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attn_mask_startend_row_indices": columns[..., 0] if columns.shape[-1] == 1 else columns,
    }


@pytest.mark.parametrize(("kind", "documents"), [(CAUSAL, ROWS), (SHARED, GROUPS)])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_passes_and_a_mask_off_by_one_fails(name, kind, documents):
    model, batch = build(name), inputs(kind)
    with paddle_flashmask.enabled():
        report = verify(model, batch, documents)
        assert report.passed and model.training, report
        columns = batch["attn_mask_startend_row_indices"]
        wider = np.where(columns > 0, np.minimum(columns + 1, LENGTH), 0).astype(np.int32)
        report = verify(model, {**batch, "attn_mask_startend_row_indices": wider}, documents)
    found = {check.name for check in report.checks if not check.passed}
    assert {leaks.DOCUMENTS, alone.OUTPUTS} <= found


def test_rounding_of_experts_is_no_leak():
    """The tokens of other documents change how many tokens an expert multiplies at once, and with it the last bits."""
    documents = [[250, 61]]
    model = build("qwen2_moe", hidden_size=128, max_position_embeddings=512)
    ids = np.random.default_rng(0).integers(0, 64, (1, 311))
    columns = masks.causal_document(documents).startend_row_indices[..., 0]
    batch = {"input_ids": ids, "position_ids": np.concatenate([np.arange(n) for n in documents[0]])[None]}
    with paddle_flashmask.enabled():
        assert verify(model, {**batch, "attn_mask_startend_row_indices": columns}, documents).passed
        wider = np.minimum(columns + 1, 311).astype(np.int32)
        report = verify(model, {**batch, "attn_mask_startend_row_indices": wider}, documents)
    assert leaks.DOCUMENTS in {check.name for check in report.checks if not check.passed}


@pytest.mark.parametrize("name", MODELS)
def test_attention_in_both_directions(name):
    model, batch = build(name, flash_mask_causal=False), inputs("documents, n=2")
    with paddle_flashmask.enabled():
        assert verify(model, batch, ROWS, attention=DocumentAttention("document")).passed
        model.config.flash_mask_causal = True
        report = verify(model, batch, ROWS, attention=DocumentAttention("document"))
    assert alone.OUTPUTS in {check.name for check in report.checks if not check.passed}


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"mistral"}))  # makes every dense mask causal
@pytest.mark.parametrize("prefix", [0, 5, LENGTH])
def test_a_dense_mask_that_shows_the_future_is_kept_on_the_flash_path(name, prefix):
    """PaddleNLP takes the mask of one document without padding for causal, whatever of the future it shows."""
    model, places = build(name, flash=True), np.arange(LENGTH)
    ids = batch_of(CAUSAL).input_ids[1:]
    mask = (places <= places[:, None]) | (places < prefix)
    labels = np.where(places < prefix - 1, -100, np.roll(ids, -1, axis=1))
    labels[:, -1] = ids[:, 0]
    with paddle_flashmask.enabled():
        kind = DocumentAttention("prefix_lm_document")
        batch = {"input_ids": ids, "labels": labels, "attention_mask": mask[None, None]}
        report = verify(model, batch, [[LENGTH]], attention=kind if prefix else DocumentAttention())
        assert report.passed, report


def test_attention_that_was_not_enabled_is_found():
    """With use_flash_attention = False PaddleNLP's Llama takes column indices and ignores them."""
    model, batch = build("llama"), inputs(CAUSAL)
    found = {check.name for check in verify(model, batch, ROWS).checks if not check.passed}
    assert found >= {leaks.DOCUMENTS, alone.LOSSES, alone.OUTPUTS}
    with paddle_flashmask.enabled():
        assert verify(model, {key: paddle.to_tensor(value) for key, value in batch.items()}, ROWS).passed


def test_dropout_is_off_meanwhile():
    model, batch = build("qwen2", attention_dropout=0.5), inputs(CAUSAL)
    with paddle_flashmask.enabled():
        assert verify(model, batch, ROWS).passed and model.training


def test_labels_and_positions_of_ones_own_batch():
    model, batch = build("llama"), inputs(CAUSAL)
    labels = np.full_like(batch["input_ids"], -100)
    labels[:, :-1] = batch["input_ids"][:, 1:]
    for row, lengths in enumerate(ROWS):
        labels[row, np.cumsum(lengths) - 1] = -100
        labels[row, sum(lengths) :] = -100
    with paddle_flashmask.enabled():
        assert verify(model, {**batch, "labels": labels}, ROWS).passed
        shifted = verify(model, {**batch, "labels": batch["input_ids"]}, ROWS)
        without = verify(model, {key: value for key, value in batch.items() if key != "position_ids"}, ROWS)
    assert {check.name for check in shifted.checks if not check.passed} == {structure.LABELS}
    assert structure.POSITIONS in {check.name for check in without.checks if not check.passed}


def test_lengths_that_do_not_fit_are_named():
    model, batch = build("llama"), inputs(CAUSAL)
    with pytest.raises(ValueError, match="documents are given for 1 batch rows, input_ids have 2"):
        verify(model, batch, ROWS[:1])
    with pytest.raises(ValueError, match="documents of batch row 1 have 25 tokens, the row has 24 places"):
        verify(model, batch, [ROWS[0], [12, 8, 5]])
    with pytest.raises(ValueError, match="documents of batch row 0: a length is -1"):
        verify(model, batch, [[[3, -1]], ROWS[1]])


DOCUMENTS = st.recursive(
    st.integers(1, 3),
    lambda branch: st.lists(branch, min_size=1, max_size=3).map(lambda tree: [1, *tree]),
    max_leaves=6,
)


@given(documents=st.lists(st.lists(DOCUMENTS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_trials_change_every_pair_apart(documents):
    """Every segment is changed while any other one is watched that does not continue it."""
    segments = segments_of(documents, 200)
    continued = []
    for number, segment in enumerate(segments):
        continued.append({number} | (continued[segment.parent] if segment.parent >= 0 else set()))
    numbers = {id(segment): number for number, segment in enumerate(segments)}
    covered = set()
    for changed, kept in [*leaks.document_trials(segments), *leaks.branch_trials(segments)]:
        pairs = {(numbers[id(source)], numbers[id(target)]) for source in changed for target in kept}
        assert not any(source in continued[target] for source, target in pairs)
        covered |= pairs
    for source in range(len(segments)):
        for target in (target for target in range(len(segments)) if not segments[target].padding):
            assert ((source, target) in covered) == (source not in continued[target]), (source, target)
