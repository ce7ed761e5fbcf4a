"""`paddle-flashmask inspect`: what a configuration would train on."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .configuration import config_arguments, config_errors

if TYPE_CHECKING:
    from paddle_flashmask.integrations.paddlenlp.inspection.inspect import Inspection


@click.command(context_settings={"ignore_unknown_options": True})
@config_arguments
@click.option("--batches", default=1, show_default=True, type=click.IntRange(min=0), help="Batches to decode.")
@click.option("--steps", default=0, type=click.IntRange(min=0), help="Run so many training steps to estimate the time.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a web page.")
@click.option("--color/--no-color", default=None, help="Mark learned text by colour. By default in a terminal only.")
def inspect(
    config: str,
    overrides: tuple[str, ...],
    verbose: bool,
    batches: int,
    steps: int,
    html: Path | None,
    color: bool | None,
) -> None:
    """Show what CONFIG would train on: packs, what is cut, steps, the mask, and the first batches as text.

    Learned text is coloured, or stands between ⟦ and ⟧ where the output is no terminal. Nothing is trained or saved and
    output_dir is not touched. The weights of the model are needed with --steps only.

    OVERRIDES are those of `paddle-flashmask train`.
    """
    if html is not None:
        _check_html(html, draws=batches > 0)
    found = show(config, overrides, verbose, batches=batches, steps=steps, color=color)
    if html is not None:
        from paddle_flashmask.integrations.paddlenlp.inspection.page import write_page

        try:
            write_page(found, html)
        except OSError as error:
            raise click.ClickException(f"cannot write {html}: {error.strerror}") from error
        click.echo(f"\nwritten to {html}")


def show(
    config: str,
    overrides: tuple[str, ...],
    verbose: bool,
    *,
    batches: int = 1,
    steps: int = 0,
    color: bool | None = None,
) -> Inspection:
    """Print what a configuration would train on. color: mark learned text by colour; None means in a terminal only."""
    color = sys.stdout.isatty() if color is None else color
    with config_errors(config, overrides, verbose):
        from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect as inspect_config
        from paddle_flashmask.integrations.paddlenlp.inspection.text import lines_of

        found = inspect_config(config, overrides, batches=batches, steps=steps, write=click.echo)
        for line in lines_of(found, _coloured if color else _bracketed):
            click.echo(line, color=color)
    return found


def _check_html(html: Path, draws: bool) -> None:
    """Raise ClickException where the web page could not be written, before any data is read.

    draws: whether the page has pictures.
    """
    if not html.parent.is_dir():
        raise click.ClickException(f"cannot write {html}: {html.parent} is not a folder")
    if not os.access(html if html.exists() else html.parent, os.W_OK):
        raise click.ClickException(f"cannot write {html}: it is write-protected")
    if draws and importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException("--html needs matplotlib: pip install matplotlib")


def _coloured(text: str) -> str:
    return click.style(text, fg="green", bold=True)


def _bracketed(text: str) -> str:
    return f"⟦{text}⟧"
