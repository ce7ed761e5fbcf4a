"""The console script `paddle-flashmask`.

A subcommand is the click command of that name in the module of that name; only the module of the requested one is
imported.
"""

from __future__ import annotations

import importlib

import click

import paddle_flashmask

SUBCOMMANDS = {
    "bench": "Measure the operator on this machine.",
    "info": "Show the build and the kernels that this machine runs.",
    "inspect": "Show what a configuration would train on.",
    "mask": "Draw a mask and count the work that it saves.",
    "merge": "Add a LoRA adapter to the weights of its model.",
    "train": "Train from a PaddleNLP configuration file.",
    "verify": "Check that a configuration leaks nothing between documents.",
}


class LazyGroup(click.Group):
    """Lists the subcommands without importing them: some need Paddle or PaddleNLP."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        return getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(paddle_flashmask.__version__, prog_name="paddle-flashmask")
def main() -> None:
    """Attention with column-sparse masks (FlashMask) for PaddlePaddle."""
