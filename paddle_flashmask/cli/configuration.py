"""What the commands on PaddleNLP configurations share: arguments, errors, and PaddleNLP's own output."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator

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


def config_arguments(command: Callable) -> Callable:
    """Add the arguments of a command that works on a configuration: CONFIG, OVERRIDES and --verbose."""
    command = click.option("--verbose", is_flag=True, help="Also show PaddleNLP's own log and Paddle's warnings.")(
        command
    )
    command = click.argument("overrides", nargs=-1, type=click.UNPROCESSED)(command)
    return click.argument("config", type=click.Path(exists=True, dir_okay=False))(command)


@contextlib.contextmanager
def config_errors(config: str, overrides: tuple[str, ...], verbose: bool) -> Iterator[None]:
    """Check a configuration before Paddle is imported, then show the errors of what is done with it as one line."""
    from paddle_flashmask.integrations.paddlenlp.config.values import check_early
    from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError, RunError, UnsupportedConfigError

    try:
        check_early(config, overrides)  # takes no time, unlike the import of Paddle
        quiet_paddlenlp(verbose)
        yield
    except (ConfigError, DataError, UnsupportedConfigError) as error:
        raise click.ClickException(str(error)) from error
    except RunError as error:
        stopped = click.ClickException(str(error))
        stopped.exit_code = error.exit_code
        raise stopped from error
