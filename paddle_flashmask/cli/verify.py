"""`paddle-flashmask verify`: whether anything leaks between documents."""

from __future__ import annotations

import click

from .configuration import config_arguments, config_errors


@click.command(context_settings={"ignore_unknown_options": True})
@config_arguments
@click.option(
    "--batches",
    default=2,
    show_default=True,
    type=click.IntRange(min=0),
    help="Batches to run on the model. 0 checks positions and labels only and needs no weights.",
)
@click.pass_context
def verify(context: click.Context, config: str, overrides: tuple[str, ...], verbose: bool, batches: int) -> None:
    """Check with the model, the data and the keys of CONFIG that nothing leaks. The exit status is 1 if anything does.

    Changes tokens of one document or answer and counts the outputs elsewhere that change by a bit, compares the losses
    in packs with those of every row alone, and looks up what is learned among the answers of the files. Nothing is
    trained or saved.

    OVERRIDES are those of `paddle-flashmask train`.
    """
    with config_errors(config, overrides, verbose):
        from paddle_flashmask.integrations.paddlenlp.verification.configuration import verify_config

        report = verify_config(config, overrides, batches=batches, write=click.echo)
    click.echo(str(report))
    if not report.passed:
        context.exit(1)
