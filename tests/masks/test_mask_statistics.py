"""Statistics against counts in the dense mask and the sparsities of arXiv 2410.01359."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_column_mask import column_masks

from paddle_flashmask import _core, masks
from paddle_flashmask.masks import ColumnMask


@given(column_masks(), st.integers(1, 6), st.integers(1, 6))
def test_counts_are_those_of_the_dense_mask(mask: ColumnMask, tile_q: int, tile_k: int) -> None:
    dense = mask.to_dense()
    tiles = [
        dense[b, h, row : row + tile_q, key : key + tile_k]
        for b in range(mask.batch)
        for h in range(mask.heads)
        for row in range(0, mask.seqlen_q, tile_q)
        for key in range(0, mask.seqlen_k, tile_k)
    ]
    got = mask.statistics(tile_q, tile_k)
    assert (got.total_pairs, got.visible_pairs) == (dense.size, dense.sum())
    assert got.full_tiles == sum(tile.all() for tile in tiles)
    assert got.empty_tiles == sum(not tile.any() for tile in tiles)
    assert got.partial_tiles == sum(tile.any() and not tile.all() for tile in tiles)
    assert got.live_tiles + got.empty_tiles == got.total_tiles == len(tiles)
    assert got.density == (dense.mean() if dense.size else 0.0)
    counts = _core.visible_per_tile(mask.columns(), mask.seqlen_q, tile_q, tile_k)
    np.testing.assert_array_equal(counts.ravel(), [tile.sum() for tile in tiles])


def test_counts_do_not_overflow() -> None:
    length = 200_000
    statistics = masks.causal(length).statistics()
    assert statistics.visible_pairs == length * (length + 1) // 2
    assert statistics.total_pairs == length * length


def test_tile_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="tile_q must be at least 1"):
        masks.causal(4).statistics(0, 4)
    with pytest.raises(TypeError, match="tile_k must be an integer"):
        masks.causal(4).statistics(4, 4.5)


def test_text_names_the_counts() -> None:
    text = str(masks.causal(256).statistics())
    assert "density 0.5020" in text
    assert "1 full, 2 partial, 1 empty (sparsity 0.2500)" in text


PAPER = json.loads((Path(__file__).parents[1] / "data" / "paper_documents.json").read_text())["sequence_lengths"]
SEQLENS = [8192, 32768, 131072]
# Sparsity in the kernel tables of arXiv 2410.01359, at 8K, 32K and 128K.
PAPER_SPARSITY = {
    "sliding_window": (0.92, 0.94, 0.94),
    "causal_document": (0.86, 0.95, 0.95),
    "global_sliding_window": (0.84, 0.87, 0.88),
    "causal_blockwise": (0.67, 0.87, 0.87),
    "prefix_lm_document": (0.86, 0.95, 0.95),
    "prefix_lm_causal": (0.37, 0.37, 0.37),
    "qk_sparse": (0.52, 0.52, 0.52),
}


def paper_mask(name: str, seqlen: int, sample: dict) -> ColumnMask:
    prefixes, lengths = zip(*sample["documents"], strict=True)
    if name == "sliding_window":
        return masks.sliding_window(seqlen, seqlen // 16)
    if name == "global_sliding_window":
        return masks.global_sliding_window(seqlen, 16, seqlen // 16)
    if name == "prefix_lm_causal":
        return masks.prefix_lm_causal(seqlen, seqlen // 2)
    if name == "prefix_lm_document":
        return masks.prefix_lm_document(lengths, prefixes)
    if name == "qk_sparse":
        return masks.qk_sparse(seqlen, [(sum(lengths[:d]), lengths[d]) for d in sample["qk_sparse"]])
    return getattr(masks, name)(lengths)


def mean_sparsity(built: list[ColumnMask]) -> float:
    return float(np.mean([mask.statistics(128, 128).sparsity for mask in built]))


@pytest.mark.parametrize("name", PAPER_SPARSITY)
def test_sparsity_is_the_papers(name: str) -> None:
    for seqlen, printed in zip(SEQLENS, PAPER_SPARSITY[name], strict=True):
        samples = PAPER[str(seqlen)]["samples"]
        sparsity = mean_sparsity([paper_mask(name, seqlen, sample) for sample in samples])
        assert round(sparsity, 2) == printed


def forward_tflop(sparsity: float, seqlen: int) -> float:
    """Forward FLOPs as the paper counts them: 128K tokens in total, 32 heads of dimension 128."""
    return (1 - sparsity) * 4 * 131072 * seqlen * 32 * 128 / 1e12


def shared_question(lengths: list[int], generator: random.Random) -> list[list[int]]:
    """Split documents as the paper does: 2 to 6 answers of at least 1 token; further tokens go to random parts."""
    groups = []
    for length in lengths:
        parts = [1] * (generator.randint(2, 6) + 1)
        for _ in range(length - len(parts)):
            parts[generator.randint(0, len(parts) - 1)] += 1
        groups.append(parts)
    return groups


def test_work_of_share_question_is_the_papers() -> None:
    generator = random.Random(0)
    built = [
        masks.share_question(shared_question([length for _, length in sample["documents"]], generator))
        for sample in PAPER["8192"]["samples"]
    ]
    sparsity = mean_sparsity(built)
    assert round(sparsity, 2) == 0.91
    assert round(forward_tflop(sparsity, 8192), 2) == 1.62


def sparsity_by_bounds(lts: np.ndarray, ute: np.ndarray) -> float:
    """Share of empty 128 x 128 tiles by the paper's rule: one interval hides the tile in all its columns."""
    first_row = np.arange(0, len(lts), 128)[:, None]
    after_lower = first_row >= lts.reshape(-1, 128).max(axis=1)
    before_upper = first_row + 128 <= ute.reshape(-1, 128).min(axis=1)
    return float((after_lower | before_upper).mean())


@pytest.mark.parametrize(("seqlen", "printed", "correct"), [(8192, 4.56, 4.565), (32768, 5.77, 7.076)])
def test_work_of_document(seqlen: int, printed: float, correct: float) -> None:
    """The paper's table has UTE at the end of the next document; here it is the start of the document."""
    samples = [[length for _, length in sample["documents"]] for sample in PAPER[str(seqlen)]["samples"]]
    ours, published = [], []
    for lengths in samples:
        mask = masks.document(lengths)
        lts = mask.startend_row_indices[0, 0, :, 0]
        too_far = np.repeat([0, *np.cumsum(lengths[1:])], lengths)
        ours.append(mask.statistics().sparsity)
        published.append(sparsity_by_bounds(lts, too_far))
        assert ours[-1] == sparsity_by_bounds(*mask.startend_row_indices[0, 0].T)
    assert round(forward_tflop(float(np.mean(published)), seqlen), 2) == printed
    assert round(forward_tflop(float(np.mean(ours)), seqlen), 3) == correct
