"""`paddle-flashmask train`: packed training from a PaddleNLP configuration file."""

from __future__ import annotations

import click

from .configuration import config_arguments, config_errors


@click.command(context_settings={"ignore_unknown_options": True})
@config_arguments
@click.option("--dry_run", "--dry-run", is_flag=True, help="Show what `inspect` shows, and train and write nothing.")
def train(config: str, overrides: tuple[str, ...], verbose: bool, dry_run: bool) -> None:
    """Train from CONFIG, PaddleNLP's keys in JSON or YAML: SFT, DPO, RM, KTO or policy gradients, in full or with LoRA.

    OVERRIDES are `--key value` pairs that win over the file, for example `--max_steps 10 --device cpu`.
    """
    if dry_run:
        from .inspect import show

        show(config, overrides, verbose)
        return
    with config_errors(config, overrides, verbose):
        from paddle_flashmask.integrations.paddlenlp.train import train as train_config

        result = train_config(config, overrides, write=click.echo)
    if result.step_seconds:
        steps, seconds = len(result.step_seconds), sum(result.step_seconds)
        click.echo(
            f"{steps} step{'s' * (steps != 1)}, {result.tokens:,} tokens in {seconds:.1f} s: "
            f"{result.tokens / seconds:,.0f} tokens/s"
        )
    click.echo(f"written to {result.output_dir}")
