"""Attention within the documents of a pack: the columns are those of the mask builders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask import masks
from paddle_flashmask.masks import ColumnMask
from paddle_flashmask.packing import DocumentAttention, SFTCollator, pack_sft

# Length and prefix length of each document.
DOCUMENTS = st.lists(
    st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), min_size=1, max_size=5
)


def batch_of(documents, attention: DocumentAttention, extra: int):
    rows = [
        {"input_ids": np.arange(n), "labels": np.where(np.arange(n) < prefix - 1, -100, 5)} for n, prefix in documents
    ]
    packed = pack_sft(rows, 40, order="sequential", attention=attention)
    size = len(packed[0]) + extra
    columns = SFTCollator(0, length=size)(packed)["startend_row_indices"]
    dense = SFTCollator(0, length=size, mask="dense")(packed)["attention_mask"]
    return packed, columns, dense


def built(kind: str, documents, size: int, window: int) -> ColumnMask:
    lengths, prefixes = ([[d[i] for d in documents]] for i in (0, 1))
    return {
        "causal_document": lambda: masks.causal_document(lengths, size),
        "document": lambda: masks.document(lengths, size),
        "prefix_lm_document": lambda: masks.prefix_lm_document(lengths, prefixes, size),
        "sliding_window": lambda: masks.causal_document(lengths, size) & masks.sliding_window(size, window),
    }[kind]()


@pytest.mark.parametrize("kind", ["causal_document", "document", "prefix_lm_document", "sliding_window"])
@given(documents=DOCUMENTS, extra=st.integers(0, 4), window=st.integers(1, 9))
def test_columns_are_those_of_the_mask_builders(kind, documents, extra, window):
    attention = DocumentAttention(kind, window if kind == "sliding_window" else None)
    packed, columns, dense = batch_of(documents, attention, extra)
    size = columns.shape[2]
    expected = built(kind, documents, size, window).to_dense()
    assert columns.dtype == np.int32 and columns.shape[-1] == (1 if attention.causal else 2)
    np.testing.assert_array_equal(ColumnMask(columns, attention.causal, size).to_dense(), expected)
    np.testing.assert_array_equal(dense, expected)
    assert packed.report.visible_pairs == expected.sum()


def test_a_document_without_labels_is_all_prefix():
    rows = [{"input_ids": [1, 2, 3], "labels": [-100] * 3}]
    (pack,) = pack_sft(rows, 8, attention=DocumentAttention("prefix_lm_document"))
    np.testing.assert_array_equal(pack.columns, [[3, 0]] * 3)


@pytest.mark.parametrize(
    ("kind", "window", "message"),
    [
        ("causal", None, "kind must be one of causal_document, document, .*; got 'causal'"),
        ("sliding_window", None, "only sliding_window has a window, and needs one; got 'sliding_window' and None"),
        ("document", 4, "only sliding_window has a window, and needs one; got 'document' and 4"),
        ("sliding_window", 0, "window must be at least 1; got 0"),
    ],
)
def test_invalid_combinations_are_refused(kind, window, message):
    with pytest.raises(ValueError, match=message):
        DocumentAttention(kind, window)


def test_causal_and_other_packs_are_not_mixed():
    rows = [{"input_ids": [1, 2], "labels": [2, 3]}]
    packs = [pack_sft(rows, 4, attention=DocumentAttention(kind))[0] for kind in ("document", "causal_document")]
    with pytest.raises(ValueError, match="must all be causal, or none of them"):
        SFTCollator(0)(packs)
