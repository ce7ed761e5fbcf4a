"""``paddle-flashmask mask NAME``: statistics and a picture of a mask. The registry of masks defines the options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from paddle_flashmask import masks
from paddle_flashmask.masks.registry import MASKS, MaskEntry, Option

ENTRIES = {entry.name: entry for entry in MASKS}


def _build(entry: MaskEntry, texts: dict[str, str]) -> masks.ColumnMask:
    """Build the mask of ``entry`` from the options given, by flag. UsageError where they do not fit the mask."""
    flags = [option.flag for option in entry.options]
    missing = [f"--{option.flag}" for option in entry.options if entry.is_required(option) and option.flag not in texts]
    if missing:
        raise click.UsageError(f"{entry.name} needs {' and '.join(missing)}")
    unknown = [f"--{flag}" for flag in texts if flag not in flags]
    if unknown:
        expected = ", ".join(f"--{flag}" for flag in flags)
        raise click.UsageError(f"{entry.name} does not take {' or '.join(unknown)}; it takes {expected}")
    arguments = {}
    for option in entry.options:
        if option.flag in texts:
            try:
                arguments[option.parameter] = option.form.read(texts[option.flag])
            except ValueError as error:
                raise click.UsageError(f"--{option.flag} of {entry.name}: {error}") from error
    try:
        return entry.command.builder(**arguments)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{entry.name}: {error}") from error


def example(entry: MaskEntry) -> dict[str, str]:
    """Return the options of the entry's example: text by flag."""
    given = entry.command.arguments
    options = (option for option in entry.options if option.parameter in given)
    return {option.flag: option.form.write(given[option.parameter]) for option in options}


def _masks_as_text() -> str:
    lines = []
    for entry in MASKS:
        texts, words = example(entry), [f"  {entry.name:22}"]
        for option in entry.options:
            word = f"--{option.flag} {texts.get(option.flag, option.form.sample)}"
            words.append(word if entry.is_required(option) else f"[{word}]")
        lines.append(" ".join(words))
    return "\b\nMasks and their options, with the values of an example:\n" + "\n".join(lines)


def _mask_options(command: Callable) -> Callable:
    """Add every option of the registry to ``command``, once, with the forms and help of all masks that have it."""
    by_flag: dict[str, list[Option]] = {}
    for option in (option for entry in MASKS for option in entry.options):
        by_flag.setdefault(option.flag, []).append(option)
    for flag, options in reversed(by_flag.items()):
        forms = dict.fromkeys(form for option in options for form in option.form.sample.split(" or "))
        texts = dict.fromkeys(option.help for option in options)
        command = click.option(f"--{flag}", metavar=" or ".join(forms), help=" ".join(texts))(command)
    return command


@click.command(epilog=_masks_as_text())
@click.argument("name", metavar="NAME", type=click.Choice(list(ENTRIES)))
@_mask_options
@click.option("--tile", type=(int, int), default=(128, 128), show_default=True, help="tile_q tile_k of the statistics.")
@click.option("--tiles", "show_tiles", is_flag=True, help="Draw full, partial and empty tiles instead of pairs.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture (.png, .svg, .pdf).")
def mask(name: str, tile: tuple[int, int], show_tiles: bool, output: Path | None, **texts: Any) -> None:
    """Print the statistics of the mask NAME and, with --output, draw it.

    The options of each mask are listed below, with an example.
    """
    if show_tiles and output is None:
        raise click.UsageError("--tiles needs --output")
    given = {option.replace("_", "-"): text for option, text in texts.items() if text is not None}
    built = _build(ENTRIES[name], given)
    try:
        statistics = built.statistics(*tile)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(repr(built))
    click.echo(str(statistics))
    if output is not None:
        try:
            built.plot(output, tile=tile if show_tiles else None, title=name.replace("_", " "))
        except (ValueError, OSError) as error:
            raise click.ClickException(f"cannot write {output}: {error}") from error
        except ImportError as error:
            raise click.ClickException(f"a picture needs matplotlib: pip install matplotlib ({error})") from error
        click.echo(f"picture   {output}")
