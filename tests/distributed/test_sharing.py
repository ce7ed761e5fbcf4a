"""Sharing out of rows: exact counts, balance and what is sent."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from registry_masks import NAMES, build_mask

from benchmarks.context_parallel import mask_of
from benchmarks.gpu import paper_masks
from paddle_flashmask import masks
from paddle_flashmask.distributed import RowShares, contiguous, share_rows, zigzag
from paddle_flashmask.distributed.plan import make_plan
from paddle_flashmask.distributed.rows import check_rows, count, row_numbers
from paddle_flashmask.distributed.sharing import pairs_of_rows

SQUARE = [name for name in NAMES if name != "draft_training"]  # where keys outnumber rows


@pytest.mark.parametrize("name", SQUARE)
def test_pairs_of_rows_are_those_of_the_dense_mask(name: str) -> None:
    mask = build_mask(name, 100, 2, 2)
    np.testing.assert_array_equal(pairs_of_rows(mask), mask.to_dense().sum(axis=(0, 1, 3)))


@pytest.mark.parametrize("share", [share_rows, zigzag, contiguous])
@pytest.mark.parametrize("name", SQUARE)
def test_costs_are_those_of_the_plans(name: str, share) -> None:
    mask = build_mask(name, 500, 1, 1)
    shares = share(mask, 3)
    assert check_rows(shares.rows, 3) == shares.rows
    dense = mask.to_dense()[0, 0]
    assert shares.pairs.tolist() == [dense[row_numbers(ranges)].sum() for ranges in shares.rows]
    plans = [make_plan(mask.columns(), shares.rows, rank) for rank in range(3)]
    assert shares.sent.tolist() == [[piece.keys for piece in plan.sent] for plan in plans]


@pytest.mark.parametrize("name", [*paper_masks.NAMES, "prefix_tree"])
def test_the_slowest_of_8_ranks_is_near_the_mean_at_128k(name: str) -> None:
    shares = share_rows(mask_of(name, 131072), 8)
    assert shares.balance <= 1.05
    assert shares.row_balance <= 1.02


def test_equal_pairs_leave_rows_contiguous() -> None:
    assert share_rows(masks.full(1024), 4).rows == contiguous(masks.full(1024), 4).rows
    documents = masks.causal_document([256] * 4)
    assert share_rows(documents, 4).sent.sum() == 0


@pytest.mark.parametrize(("name", "seqlen", "ranks"), [("prefix_lm_causal", 2003, 2), ("causal_document", 513, 4)])
def test_ranks_have_about_equally_many_rows_of_odd_lengths(name: str, seqlen: int, ranks: int) -> None:
    """Also where longer chunks, which do not divide the rows equally, balance the pairs."""
    shares = share_rows(build_mask(name, seqlen, 1, 1), ranks)
    assert shares.balance <= 1.1
    assert shares.row_balance <= 1.13


def test_rows_that_see_nothing_are_shared_out_equally() -> None:
    blind = masks.ColumnMask(np.zeros([1, 1, 1000, 1], dtype=np.int32), True, 1000)
    shares = share_rows(blind, 3)
    assert shares.balance == 1.0
    assert shares.row_balance <= 1.05


def test_zigzag_pairs_the_ends() -> None:
    assert zigzag(masks.causal(800), 2).rows == (((0, 200), (600, 800)), ((200, 600),))
    assert zigzag(masks.causal(800), 4).balance == pytest.approx(1.0)


@pytest.mark.parametrize("ranks", [1, 3, 7])
@pytest.mark.parametrize("seqlen", [0, 1, 5, 100, 1000])
def test_any_length_and_number_of_ranks(seqlen: int, ranks: int) -> None:
    for share in (share_rows, zigzag, contiguous):
        shares = share(masks.causal(seqlen), ranks)
        assert len(shares.rows) == ranks and sum(map(count, shares.rows)) == seqlen
        assert check_rows(shares.rows, ranks) == shares.rows
        assert shares.pairs.sum() == seqlen * (seqlen + 1) // 2


def test_chunks_are_multiples_of_the_shortest() -> None:
    shares = share_rows(masks.causal(1000), 3, chunk=48, tolerance=1.0)
    bounds = {bound for ranges in shares.rows for pair in ranges for bound in pair} - {1000}
    assert all(bound % 48 == 0 for bound in bounds)
    assert shares.balance < share_rows(masks.causal(1000), 3, chunk=320).balance


def test_bytes_and_text() -> None:
    shares = RowShares(masks.causal(256), (((0, 128),), ((128, 256),)), np.array([8256, 24640]))
    assert shares.sent.tolist() == [[0, 128], [0, 0]]
    per_key = 2 * (64 + 32) * 2
    assert shares.bytes_sent(2, 64, 32).tolist() == [2 * 128 * per_key, 128 * per_key]
    assert str(shares).splitlines() == [
        "balance   1.498 (pairs of the slowest rank over the mean)",
        "rank 0    128 rows in 1 ranges, 8,256 pairs, 128 keys sent, 0 received",
        "rank 1    128 rows in 1 ranges, 24,640 pairs, 0 keys sent, 128 received",
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros(3), 2), TypeError, "mask is ndarray, expected a ColumnMask"),
        ((masks.full(6), 0), ValueError, "ranks must be at least 1"),
        ((masks.full(6), 2.0), TypeError, "ranks must be an integer"),
        (
            (masks.draft_training([5, 3], step=2), 2),
            ValueError,
            "the mask has 8 rows and 24 keys, expected equally many",
        ),
    ],
)
def test_other_arguments_are_refused(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        share_rows(*arguments)


def test_sharing_does_not_import_paddle() -> None:
    code = "import sys; from paddle_flashmask.distributed import share_rows; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
