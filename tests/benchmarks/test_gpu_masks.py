"""Masks, bounds and gates of benchmarks/gpu."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.repository import REPOSITORY

from benchmarks.gpu import gates, goals, paper_masks


@pytest.mark.parametrize("seqlen", [640, 1000])
@pytest.mark.parametrize("name", paper_masks.NAMES)
def test_pairs_and_tiles_are_those_of_the_mask(name: str, seqlen: int) -> None:
    mask = paper_masks.paper_mask(name, seqlen)
    if mask.columns is None:
        assert mask.pairs == (seqlen * (seqlen + 1) // 2 if mask.causal else seqlen**2)
        return
    counted = paper_masks.masks_package().ColumnMask(mask.columns, mask.causal, seqlen).statistics()
    assert mask.pairs == counted.visible_pairs
    assert mask.tile_efficiency == counted.visible_pairs / (counted.live_tiles * 128 * 128)


def test_masks_are_built_without_the_compiled_module() -> None:
    program = (
        "import sys; sys.modules['paddle_flashmask._core'] = None\n"
        "from benchmarks.gpu.paper_masks import NAMES, paper_mask\n"
        "print(sum(paper_mask(name, 512).pairs for name in NAMES))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(paper_masks.paper_mask(name, 512).pairs for name in paper_masks.NAMES)


def row_of(mask: str, seqlen: int, head_dim: int, rate: float = 790.0) -> dict:
    described = paper_masks.paper_mask(mask, seqlen)
    names = ("tile_efficiency", "live_tiles_per_row", "partial_tiles")
    shape = {"mask": mask, "seqlen": seqlen, "head_dim": head_dim, "matmul_tflops": rate}
    return shape | {name: getattr(described, name) for name in names}


@pytest.mark.parametrize(
    ("mask", "seqlen", "head_dim", "forward", "backward"),
    [
        ("full", 8192, 128, 708, 616),
        ("causal", 8192, 128, 685, 585),
        ("sliding_window", 8192, 128, 465, 335),
        ("global_sliding_window", 8192, 128, 486, 388),
        ("full", 8192, 64, 545, 502),
    ],
)
def test_goals_by_hand(mask: str, seqlen: int, head_dim: int, forward: float, backward: float) -> None:
    row = row_of(mask, seqlen, head_dim)
    assert gates.gates(row, "forward")["goal"] == pytest.approx(forward, rel=0.01)
    assert gates.gates(row, "backward")["goal"] == pytest.approx(backward, rel=0.01)


def test_gates_follow_the_matrix_product_and_exist_where_something_is_known() -> None:
    slow, fast = (gates.gates(row_of("full", 8192, 128, rate), "forward") for rate in (395.0, 790.0))
    assert {name: gate / 2 for name, gate in fast.items()} == pytest.approx(slow)
    assert fast["par"] == pytest.approx(0.95 * 702) and fast["stretch"] == pytest.approx(0.93 * 790)
    sparse = gates.gates(row_of("share_question", 8192, 128), "backward")
    assert sparse["par"] is None and sparse["stretch"] is None


def test_goals_are_a_row_per_mask_and_length() -> None:
    lines = goals.markdown(790.0, seqlens=(8192,)).splitlines()
    assert len(lines) == 2 + len(paper_masks.NAMES)
    full = "| full | 8192 | 1.000 | 1.000 | 0.00 | 790 | 667 / 581 | 708 / 616 | 472 / 450 | 544 / 502 |"
    assert lines[2] == full


def test_gates_that_are_passed_are_named() -> None:
    row = row_of("full", 8192, 128)
    for speed, names in ((660.0, "none"), (700.0, "par"), (720.0, "par, goal"), (740.0, "par, goal, stretch")):
        assert gates.reached(row | {"forward": {"contestants": {"ours": {"tflops": speed}}}}, "forward") == names
