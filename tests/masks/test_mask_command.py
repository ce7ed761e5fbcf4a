"""`paddle-flashmask mask`: the example of every mask, the help, the errors and the picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from paddle_flashmask.cli.mask import example, mask
from paddle_flashmask.masks._options import INTEGER, INTEGER_OR_PAIR, INTEGERS, LISTS, PADDING, PAIRS, Form
from paddle_flashmask.masks.registry import MASKS, MaskEntry


@pytest.mark.parametrize("entry", MASKS, ids=lambda entry: entry.name)
def test_the_example_of_every_mask(entry: MaskEntry) -> None:
    words = [word for flag, text in example(entry).items() for word in (f"--{flag}", text)]
    done = CliRunner().invoke(mask, [entry.name, *words, "--tile", "2", "3"])
    assert done.exit_code == 0, done.output
    expected = entry.command.build()
    assert done.output == f"{expected!r}\n{expected.statistics(2, 3)}\n"


def test_help_lists_every_mask_and_option() -> None:
    text = CliRunner().invoke(mask, ["--help"]).output
    for entry in MASKS:
        assert f"\n    {entry.name} " in text
        for option in entry.options:
            assert f"\n  --{option.flag} " in text
    assert "[--length N]" in text and not re.search(r"\[--[a-z-]+\]", text.split("with the values of an example")[1])


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (INTEGER, "-3", -3),
        (INTEGERS, "4,3,3", [4, 3, 3]),
        (INTEGER_OR_PAIR, "3", 3),
        (INTEGER_OR_PAIR, "2,1", [2, 1]),
        (LISTS, "4+3+3,5+2,6", [[4, 3, 3], [5, 2], [6]]),
        (PAIRS, "2:3,6:2", [[2, 3], [6, 2]]),
        (PADDING.form, "document", "document"),
    ],
)
def test_forms(form: Form, text: str, value: object) -> None:
    assert form.read(text) == value
    assert form.write(value) == text


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
        (["document", "--docs", "4,x"], "--docs of document: '4,x' is not of the form 4,3,3"),
        (["document", "--docs", "4+3"], "'4+3' is not of the form 4,3,3"),
        (["causal", "--seqlen", "x"], "--seqlen of causal: 'x' is not of the form N"),
        (["document", "--docs", "4", "--padding", "x"], "'x' is not of the form hidden or document"),
        (["document", "--docs", "4,3", "--seqlen", "6"], "hold 7 tokens, more than seqlen 6"),
        (
            ["sliding_window", "--seqlen", "8", "--window", "3,2"],
            "of sliding_window: '3,2' is not of the form N",
        ),
        (["prefix_lm_causal", "--seqlen", "8", "--prefix", "3,2"], "'3,2' is not of the form N"),
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
