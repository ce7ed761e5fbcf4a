"""paddle-flashmask mask."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from paddle_flashmask import masks
from paddle_flashmask.cli.mask import RECIPES, mask

EXAMPLES = {
    "full": (["--seqlen", "8", "--length", "6"], masks.full(8, length=6)),
    "causal": (["--seqlen", "8"], masks.causal(8)),
    "sliding_window": (["--seqlen", "8", "--window", "3"], masks.sliding_window(8, 3)),
    "causal_document": (["--docs", "4,3,3", "--seqlen", "12"], masks.causal_document([4, 3, 3], 12)),
    "document": (["--docs", "4,3", "--padding", "document"], masks.document([4, 3], padding="document")),
    "share_question": (["--docs", "4+3+3,5+2,6"], masks.share_question([[4, 3, 3], [5, 2], [6]])),
    "global_sliding_window": (
        ["--seqlen", "9", "--global-tokens", "2", "--window", "1,2"],
        masks.global_sliding_window(9, 2, (1, 2)),
    ),
    "causal_blockwise": (["--docs", "4,3,3"], masks.causal_blockwise([4, 3, 3])),
    "prefix_lm_document": (["--docs", "4,3", "--prefix", "2,1"], masks.prefix_lm_document([4, 3], [2, 1])),
    "prefix_lm_causal": (["--seqlen", "9", "--prefix", "4"], masks.prefix_lm_causal(9, 4)),
    "qk_sparse": (["--seqlen", "9", "--dropped", "2:3,6:2"], masks.qk_sparse(9, [(2, 3), (6, 2)])),
    "hash_sparse": (["--seqlen", "9", "--buckets", "3"], None),
    "random_eviction": (["--seqlen", "9", "--start", "4", "--seed", "5"], masks.random_eviction(9, 4, seed=5)),
}


def test_every_mask_has_an_example() -> None:
    assert set(EXAMPLES) == set(RECIPES) == set(masks.__all__) - {"ColumnMask", "MaskStatistics", "hash_bucket_queries"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_prints_the_statistics(name: str) -> None:
    arguments, expected = EXAMPLES[name]
    done = CliRunner().invoke(mask, [name, *arguments, "--tile", "2", "3"])
    assert done.exit_code == 0, done.output
    assert "tiles     2 x 3: " in done.output
    if expected is not None:
        assert done.output == f"{expected!r}\n{expected.statistics(2, 3)}\n"


def test_hash_sparse_repeats_with_its_seed() -> None:
    arguments = ["hash_sparse", "--seqlen", "64", "--buckets", "3", "--tile", "4", "4"]
    outputs = [CliRunner().invoke(mask, [*arguments, "--seed", seed]).output for seed in ("0", "0", "1")]
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize("tiles", [[], ["--tiles"]])
def test_writes_a_picture(tmp_path: Path, tiles: list[str]) -> None:
    path = tmp_path / "mask.png"
    done = CliRunner().invoke(mask, ["causal", "--seqlen", "300", "--output", str(path), *tiles])
    assert done.exit_code == 0, done.output
    assert path.read_bytes().startswith(b"\x89PNG")
    assert f"picture   {path}" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["casual"], "'random_eviction'"),
        (["sliding_window", "--seqlen", "8"], "sliding_window needs --window"),
        (["document", "--docs", "4", "--window", "3"], "document does not take --window; it takes --docs, --seqlen"),
        (["document", "--docs", "4,x"], "'4,x' is not of the form"),
        (["document", "--docs", "4+3"], "only share_question takes 4+3+3"),
        (["document", "--docs", "4,3", "--seqlen", "6"], "hold 7 tokens, more than seqlen 6"),
        (["sliding_window", "--seqlen", "8", "--window", "3,2"], "takes one --window"),
        (["prefix_lm_causal", "--seqlen", "8", "--prefix", "3,2"], "takes one --prefix"),
        (["causal", "--seqlen", "8", "--tile", "0", "4"], "tile_q must be at least 1"),
        (["causal", "--seqlen", "8", "--tiles"], "--tiles needs --output"),
    ],
)
def test_errors(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(mask, arguments)
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ")


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    done = CliRunner().invoke(mask, ["causal", "--seqlen", "8", "--output", str(tmp_path / "no" / "mask.png")])
    assert done.exit_code == 1
    assert "cannot write" in done.output
