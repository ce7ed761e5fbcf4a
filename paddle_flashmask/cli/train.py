"""`paddle-flashmask train`: packed training from a PaddleNLP configuration file."""

from __future__ import annotations

import importlib.util
import warnings

import click


def quiet_paddlenlp(verbose: bool) -> None:
    """Import PaddleNLP, unless `verbose` without its log and the deprecation warnings that it causes in Paddle."""
    if importlib.util.find_spec("paddlenlp") is None:
        raise click.ClickException("this needs PaddleNLP: pip install 'paddle-flashmask[paddlenlp]'")
    if verbose:
        return
    warnings.filterwarnings("ignore", module="(paddle|_distutils_hack|jieba)")
    from paddlenlp.utils.log import logger

    logger.set_level("WARNING")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.option("--verbose", is_flag=True, help="Also show PaddleNLP's own log and Paddle's warnings.")
def train(config: str, overrides: tuple[str, ...], verbose: bool) -> None:
    """Train from CONFIG, a PaddleNLP JSON file for SFT, DPO, RM or KTO, in full or with LoRA.

    OVERRIDES are `--key value` pairs that win over the file, for example `--max_steps 10 --device cpu`.
    """
    quiet_paddlenlp(verbose)
    from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError, RunError, UnsupportedConfigError
    from paddle_flashmask.integrations.paddlenlp.train import train as train_config

    try:
        result = train_config(config, overrides, write=click.echo)
    except (ConfigError, DataError, UnsupportedConfigError) as error:
        raise click.ClickException(str(error)) from error
    except RunError as error:
        stopped = click.ClickException(str(error))
        stopped.exit_code = error.exit_code
        raise stopped from error
    if result.step_seconds:
        seconds = sum(result.step_seconds)
        click.echo(
            f"{len(result.step_seconds)} steps, {result.tokens:,} tokens in {seconds:.1f} s: "
            f"{result.tokens / seconds:,.0f} tokens/s"
        )
    click.echo(f"written to {result.output_dir}")
