"""`paddle-flashmask info`."""

from __future__ import annotations

import click

from paddle_flashmask import _info


@click.command()
def info() -> None:
    """Show the build, its Paddle version, and the kernels that this machine runs."""
    lines = _info.collect()
    width = max(map(len, lines))
    for label, text in lines.items():
        click.echo(f"{label:{width}}  {text}")
