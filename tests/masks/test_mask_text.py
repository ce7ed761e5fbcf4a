"""Pictures of masks in characters."""

from __future__ import annotations

import numpy as np
import pytest

from paddle_flashmask import masks
from paddle_flashmask.masks import ColumnMask

SHADES = " ░▒▓█"


def test_a_character_is_a_block_of_two_queries_and_one_key():
    dense = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]], dtype=bool)
    assert ColumnMask.from_dense(dense).to_text() == "█ ▒\n██ \n█  "


def test_shades_grow_with_the_visible_share():
    dense = np.zeros((16, 8), dtype=bool)
    shades = []
    for visible in range(16 * 8 + 1):
        dense.T.flat[:visible] = True
        shades.append(SHADES.index(ColumnMask.from_dense(dense).to_text(width=1)))
    assert shades == sorted(shades)
    assert shades[0] == 0 and shades[1] == 1 and shades[-2] == len(SHADES) - 2 and shades[-1] == len(SHADES) - 1


@pytest.mark.parametrize("width", [1, 7, 50, 300])
def test_a_picture_keeps_to_its_width_and_shows_documents_apart(width):
    lines = masks.causal_document([40, 24, 36]).expand(2).to_text(batch=1, width=width).split("\n")
    assert {len(line) for line in lines} == {min(100, -(-100 // -(-100 // width)))}
    if width == 300:
        assert lines[30][:40].strip() == "" and lines[30][64:].strip() == ""


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match="batch 1, head 0 is not one of 1 x 1"):
        masks.causal(4).to_text(batch=1)
    with pytest.raises(ValueError, match="width must be at least 1"):
        masks.causal(4).to_text(width=0)
