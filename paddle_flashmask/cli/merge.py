"""`paddle-flashmask merge`: add a LoRA adapter to the weights of its base model."""

from __future__ import annotations

import click

from .configuration import quiet_paddlenlp


@click.command()
@click.argument("adapter", type=click.Path(exists=True, file_okay=False))
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for the merged model.")
@click.option("--base", help="Folder or name of the base model; by default the one that the adapter names.")
def merge(adapter: str, output: str, base: str | None) -> None:
    """Add the LoRA adapter in the folder ADAPTER to the weights of its base model.

    Works for language models and reward models. The result is in PaddleNLP's format and loads without this package.
    """
    quiet_paddlenlp(verbose=False)
    from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
    from paddle_flashmask.integrations.paddlenlp.merge import merge_adapter

    try:
        merge_adapter(adapter, output, base)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"written to {output}")
