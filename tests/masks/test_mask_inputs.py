"""Invalid arguments of the builders, and their messages."""

from __future__ import annotations

import numpy as np
import pytest

from paddle_flashmask import masks

BAD_VALUES = [
    (lambda: masks.document([4, -1]), r"documents\[1\] must be at least 0.*got -1"),
    (lambda: masks.document([[4], [3, -2]]), r"documents\[1\]\[1\] must be at least 0.*got -2"),
    (lambda: masks.causal_document([4, 3], 6), "documents of batch row 0 hold 7 tokens, more than seqlen 6"),
    (lambda: masks.causal_document([[4], [4, 3]], 6), "documents of batch row 1 hold 7 tokens, more than seqlen 6"),
    (lambda: masks.causal_blockwise([4, 3], 6), "hold 7 tokens, more than seqlen 6"),
    (lambda: masks.document([2**31 - 1, 1]), "total length of the documents must be .* less than 2"),
    (lambda: masks.document([4], padding="zero"), "padding must be 'hidden' or 'document', got 'zero'"),
    (lambda: masks.causal(-1), "seqlen must be at least 0"),
    (lambda: masks.causal(4, length=5), "length 5 of batch row 0 is greater than seqlen 4"),
    (lambda: masks.full(4, length=[4, 9]), "length 9 of batch row 1 is greater than seqlen 4"),
    (lambda: masks.full(4, length=[]), "length must be an integer or one per batch row, got an empty list"),
    (lambda: masks.sliding_window(4, 0), "window must be at least 1"),
    (lambda: masks.global_sliding_window(4, 5, 1), "global_tokens 5 is greater than seqlen 4"),
    (lambda: masks.global_sliding_window(4, 1, -1), "window must be at least 0"),
    (lambda: masks.global_sliding_window(4, 1, (1, 2, 3)), r"window must be an integer or \(left, right\)"),
    (lambda: masks.share_question([[4, 3], []]), r"groups\[1\] must hold at least a question length"),
    (lambda: masks.share_question([[4, -3]]), r"groups\[0\]\[1\] must be at least 0"),
    (lambda: masks.share_question([[4, 3]], 6), "hold 7 tokens, more than seqlen 6"),
    (lambda: masks.prefix_lm_document([4, 3], [2]), "batch row 0 has 2 documents but 1 prefixes"),
    (lambda: masks.prefix_lm_document([[4], [3]], [1]), "documents has 2 batch rows, prefixes has 1"),
    (lambda: masks.prefix_lm_document([[1]] * 2, [[1]] * 3), "batch size: documents has 2, prefixes has 3"),
    (lambda: masks.prefix_lm_document([4, 3], [2, 4]), "prefix 4 of document 1 in batch row 0 is longer"),
    (lambda: masks.prefix_lm_causal(4, 5), "prefix 5 of batch row 0 is longer than the sequence, 4"),
    (lambda: masks.prefix_lm_causal(9, [1, 2, 6], length=[9, 9, 5]), "prefix 6 of batch row 2 is longer"),
    (lambda: masks.prefix_lm_causal(9, [1, 2], length=[9, 9, 5]), "batch size: prefix has 2, length has 3"),
    (lambda: masks.qk_sparse(9, [(2, 3), (4, 1)]), "must ascend without overlap"),
    (lambda: masks.qk_sparse(9, [(2, 8)]), r"dropped span \(2, 8\) of batch row 0 ends after its length 9"),
    (lambda: masks.qk_sparse(9, [[(0, 1)], [(2, 3)]], length=[9, 4]), r"batch row 1 ends after its length 4"),
    (lambda: masks.qk_sparse(9, [(2, 3, 4)]), r"dropped\[0\] is \(2, 3, 4\)"),
    (lambda: masks.hash_sparse([0, 1], [1]), r"same shape, got \(1, 2\) and \(1, 1\)"),
    (lambda: masks.hash_sparse([0, 3], [1, 2]), r"first_query must lie in \[0, 2\], got 0 to 3"),
    (lambda: masks.hash_bucket_queries([1, 0], [0, 1]), "query_buckets must ascend"),
    (lambda: masks.hash_bucket_queries([0, 0], [0, 1], [0, 1]), "must be given together"),
    (lambda: masks.hash_bucket_queries([0, 0], [0, 1], [1, 0], [0, 1]), "query_positions must ascend within"),
    (lambda: masks.prefix_tree([-1, 0, 0, 1], [1] * 4), r"node 3 must follow its parent 1 .*\[0, 1, 3, 2\] would do"),
    (lambda: masks.prefix_tree([1, -1], [1, 1]), r"node 0 must follow its parent 1 .*\[1, 0\]"),
    (lambda: masks.prefix_tree([-1, 2, 1], [1] * 3), "ancestors of node 1 of batch row 0 form a circle"),
    (lambda: masks.prefix_tree([[-1], [0]], [[1], [1]]), "ancestors of node 0 of batch row 1 form a circle"),
    (lambda: masks.prefix_tree([-1, 5], [1, 1]), r"parents\[1\] must be -1 or one of 2 nodes, got 5"),
    (lambda: masks.prefix_tree([-1, -2], [1, 1]), r"parents\[1\] must be at least -1"),
    (lambda: masks.prefix_tree([-1], [1, 1]), "batch row 0 has 2 nodes in lengths but 1 in parents"),
    (lambda: masks.prefix_tree([-1], [[1], [1]]), "lengths has 2 batch rows, parents has 1"),
    (lambda: masks.sink_window_document([4], 1, 0), "window must be at least 1"),
    (lambda: masks.sink_window_document([4], -1, 1), "sink must be at least 0"),
    (lambda: masks.chunked_document([4], 0), "chunk must be at least 1"),
    (lambda: masks.image_spans([4, 4], [(3, 2)]), r"span \(3, 2\) of batch row 0 is not inside one document"),
    (lambda: masks.image_spans([4], [(1, 2), (2, 1)]), "spans of batch row 0 must ascend without overlap"),
    (lambda: masks.image_spans([[4], [4]], [(0, 1)]), "documents has 2 batch rows, spans has 1"),
    (lambda: masks.image_spans([4], [(3, 2)]), r"span \(3, 2\) of batch row 0 is not inside one document"),
    (lambda: masks.block_diffusion([4], 0), "block must be at least 1"),
    (lambda: masks.block_diffusion([4], 2, 7), "both copies of the documents of batch row 0 hold 8 tokens, more than"),
    (lambda: masks.multi_token_prediction([4], -1), "depth must be at least 0"),
    (lambda: masks.multi_token_prediction([4], 1, 0), "window must be at least 1"),
    (lambda: masks.draft_training([4], -1), "step must be at least 0"),
    (lambda: masks.random_eviction(4, 0), "start must be at least 1"),
    (lambda: masks.random_eviction(4, 2, seed=-1), "seed must be at least 0"),
]

BAD_TYPES = [
    (lambda: masks.document([4, 3.0]), r"documents\[1\] must be an integer, got 3.0"),
    (lambda: masks.document([4, True]), r"documents\[1\] must be an integer, got True"),
    (lambda: masks.document([4, [3]]), r"documents\[1\] must be an integer, got \[3\]"),
    (lambda: masks.document(np.array([4.0, 3.0])), r"documents\[0\] must be an integer"),
    (lambda: masks.document("43"), "documents must be a list of lengths"),
    (lambda: masks.document(7), "documents must be a list of lengths"),
    (lambda: masks.document([4, 3], 7.5), "seqlen must be an integer, got 7.5"),
    (lambda: masks.causal("4"), "seqlen must be an integer, got '4'"),
    (lambda: masks.causal(4, length=[1, None]), r"length\[1\] must be an integer, got None"),
    (lambda: masks.share_question([4, 3, 3]), "groups must be a list of"),
    (lambda: masks.share_question(4), "groups must be a list of"),
    (lambda: masks.share_question([[[4, 3]], [4]]), r"groups\[0\]\[0\] must be an integer, got \[4, 3\]"),
    (lambda: masks.prefix_tree(3, [1]), "parents must be a list of node indices"),
    (lambda: masks.image_spans([4], 3), "spans must be a list of"),
    (lambda: masks.qk_sparse(9, 3), "dropped must be a list of"),
    (lambda: masks.qk_sparse(9, [(1, 2.5)]), r"dropped\[0\] length must be an integer, got 2.5"),
    (lambda: masks.hash_sparse([0.5], [1]), "first_query must hold integers, got float64"),
]


@pytest.mark.parametrize(("build", "message"), BAD_VALUES)
def test_bad_values(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(("build", "message"), BAD_TYPES)
def test_bad_types(build, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build()


def test_empty_masks() -> None:
    for mask in (masks.causal_document([]), masks.document([0, 0]), masks.causal(0), masks.share_question([])):
        assert mask.startend_row_indices.shape[:3] == (1, 1, 0)
        assert mask.to_dense().shape == (1, 1, 0, 0)
        assert mask.statistics().total_tiles == 0
