"""Pictures: the PNG shows the visible share of the mask."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import to_rgb

from paddle_flashmask import masks
from paddle_flashmask.masks.plotting import HIDDEN, PARTIAL, VISIBLE


def share_of(color: str, picture: np.ndarray) -> float:
    return float((np.abs(picture[..., :3] - to_rgb(color)).max(axis=-1) < 0.02).mean())


def shown_density(picture: np.ndarray) -> float:
    visible = share_of(VISIBLE, picture)
    return visible / (visible + share_of(HIDDEN, picture))


def test_small_mask(tmp_path) -> None:
    path = tmp_path / "mask.png"
    mask = masks.causal_document([4, 3, 3], 12)
    mask.plot(path, title="causal document")
    picture = image.imread(path)
    assert min(picture.shape[:2]) >= 400
    assert abs(shown_density(picture) - mask.statistics().density) < 0.02


@pytest.mark.parametrize("seqlen", [513, 8192])
def test_long_mask_is_shrunk(tmp_path, seqlen: int) -> None:
    mask = masks.full(seqlen, length=seqlen // 2)
    mask.plot(tmp_path / "mask.png")
    picture = image.imread(tmp_path / "mask.png")
    assert max(picture.shape[:2]) < 1000
    assert abs(shown_density(picture) - 0.25) < 0.02


def test_tiles(tmp_path) -> None:
    mask = masks.causal(1024)
    mask.plot(tmp_path / "pairs.png")
    mask.plot(tmp_path / "tiles.png", tile=(128, 128))
    assert share_of(PARTIAL, image.imread(tmp_path / "pairs.png")) == 0
    picture = image.imread(tmp_path / "tiles.png")
    statistics = mask.statistics(128, 128)
    for color, tiles in ((PARTIAL, statistics.partial_tiles), (VISIBLE, statistics.full_tiles)):
        assert abs(share_of(color, picture) / share_of(HIDDEN, picture) * statistics.empty_tiles / tiles - 1) < 0.15


def test_clipped_tiles_can_be_full(tmp_path) -> None:
    masks.full(1000).plot(tmp_path / "mask.png", tile=(128, 96))
    picture = image.imread(tmp_path / "mask.png")
    assert share_of(VISIBLE, picture) > 0.5
    assert share_of(PARTIAL, picture) < 0.005  # the legend


def test_each_row_and_head_has_its_picture(tmp_path) -> None:
    mask = masks.causal_document([[8], [2, 2, 2, 2]]).expand(2, heads=2)
    mask.plot(tmp_path / "a.png", batch=0, head=1)
    mask.plot(tmp_path / "b.png", batch=1, head=1)
    pictures = [image.imread(tmp_path / name) for name in ("a.png", "b.png")]
    assert share_of(VISIBLE, pictures[0]) > 2 * share_of(VISIBLE, pictures[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 1}, "batch 1, head 0 is not one of 1 x 1"),
        ({"head": 2}, "batch 0, head 2 is not one of 1 x 1"),
        ({"tile": (0, 4)}, r"tile\[0\] must be at least 1"),
    ],
)
def test_checks(tmp_path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks.causal(4).plot(tmp_path / "mask.png", **arguments)


def test_a_tile_is_a_pair(tmp_path) -> None:
    with pytest.raises(TypeError, match=r"tile must be None or a pair \(tile_q, tile_k\), got 64"):
        masks.causal(4).plot(tmp_path / "mask.png", tile=64)


def test_an_empty_mask_has_no_picture(tmp_path) -> None:
    with pytest.raises(ValueError, match="0 x 0, has no picture"):
        masks.causal(0).plot(tmp_path / "mask.png")
