"""``paddle-flashmask mask NAME``: statistics and a picture of a mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from paddle_flashmask import masks


class Recipe(NamedTuple):
    """How the command makes one kind of mask: its builder and the options it takes (and those it cannot do without)."""

    build: Callable[..., masks.ColumnMask]
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


def _sliding_window(window: tuple[int, ...], **sizes: int) -> masks.ColumnMask:
    if len(window) != 1:
        raise ValueError(f"sliding_window takes one --window, got {','.join(map(str, window))}")
    return masks.sliding_window(window=window[0], **sizes)


def _global_sliding_window(window: tuple[int, ...], **sizes: int) -> masks.ColumnMask:
    return masks.global_sliding_window(window=window[0] if len(window) == 1 else window, **sizes)


def _prefix_lm_document(docs: list, prefix: tuple[int, ...], **rest: Any) -> masks.ColumnMask:
    return masks.prefix_lm_document(docs, prefix, **rest)


def _prefix_lm_causal(prefix: tuple[int, ...], **sizes: int) -> masks.ColumnMask:
    if len(prefix) != 1:
        raise ValueError(f"prefix_lm_causal takes one --prefix, got {','.join(map(str, prefix))}")
    return masks.prefix_lm_causal(prefix=prefix[0], **sizes)


def _hash_sparse(seqlen: int, buckets: int, seed: int = 0) -> masks.ColumnMask:
    """Tokens hashed at random, sorted by bucket, causal by where they stood before."""
    order = np.random.default_rng(seed).integers(0, buckets, size=(2, seqlen))
    query_order, key_order = np.argsort(order, axis=1, kind="stable")
    return masks.hash_sparse(
        *masks.hash_bucket_queries(order[0][query_order], order[1][key_order], query_order, key_order)
    )


def _documents(build: Callable[..., masks.ColumnMask]) -> Callable[..., masks.ColumnMask]:
    return lambda docs, **rest: build(docs, **rest)


def _share_question(docs: list, **rest: Any) -> masks.ColumnMask:
    return masks.share_question([doc if isinstance(doc, tuple) else (doc,) for doc in docs], **rest)


RECIPES = {
    "full": Recipe(masks.full, ("seqlen",), ("length",)),
    "causal": Recipe(masks.causal, ("seqlen",), ("length",)),
    "sliding_window": Recipe(_sliding_window, ("seqlen", "window"), ("length",)),
    "causal_document": Recipe(_documents(masks.causal_document), ("docs",), ("seqlen", "padding")),
    "document": Recipe(_documents(masks.document), ("docs",), ("seqlen", "padding")),
    "share_question": Recipe(_share_question, ("docs",), ("seqlen", "padding")),
    "global_sliding_window": Recipe(_global_sliding_window, ("seqlen", "global_tokens", "window"), ("length",)),
    "causal_blockwise": Recipe(_documents(masks.causal_blockwise), ("docs",), ("seqlen",)),
    "prefix_lm_document": Recipe(_prefix_lm_document, ("docs", "prefix"), ("seqlen", "padding")),
    "prefix_lm_causal": Recipe(_prefix_lm_causal, ("seqlen", "prefix"), ("length",)),
    "qk_sparse": Recipe(masks.qk_sparse, ("seqlen", "dropped"), ("length",)),
    "hash_sparse": Recipe(_hash_sparse, ("seqlen", "buckets"), ("seed",)),
    "random_eviction": Recipe(masks.random_eviction, ("seqlen", "start"), ("seed",)),
}


class Numbers(click.ParamType):
    """Integers with separators between them; one separator gives a list, two a list of lists."""

    def __init__(self, name: str, separator: str = ",", inner: str | None = None) -> None:
        self.name = name
        self.separator = separator
        self.inner = inner

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            items = value.split(self.separator)
            if self.inner is not None and self.inner in value:
                return [tuple(int(number) for number in item.split(self.inner)) for item in items]
            return tuple(int(item) for item in items)
        except ValueError:
            self.fail(f"{value!r} is not of the form {self.name}", param, ctx)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _build(name: str, given: dict[str, Any]) -> masks.ColumnMask:
    recipe = RECIPES[name]
    missing = [_option(option) for option in recipe.required if option not in given]
    if missing:
        raise click.UsageError(f"{name} needs {' and '.join(missing)}")
    unknown = [_option(option) for option in given if option not in (*recipe.required, *recipe.optional)]
    if unknown:
        takes = ", ".join(_option(option) for option in (*recipe.required, *recipe.optional))
        raise click.UsageError(f"{name} does not take {' or '.join(unknown)}; it takes {takes}")
    if name != "share_question" and any(isinstance(doc, tuple) for doc in given.get("docs", ())):
        raise click.UsageError(f"{name} takes --docs as 4,3,3; only share_question takes 4+3+3")
    try:
        return recipe.build(**given)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{name}: {error}") from error


def _recipes_as_text() -> str:
    lines = []
    for name, recipe in RECIPES.items():
        options = [*map(_option, recipe.required), *(f"[{_option(option)}]" for option in recipe.optional)]
        lines.append(f"  {name:22} {' '.join(options)}")
    return "\b\nMasks and their options:\n" + "\n".join(lines)


@click.command(epilog=_recipes_as_text())
@click.argument("name", metavar="NAME", type=click.Choice(list(RECIPES)))
@click.option("--seqlen", type=int, help="Sequence length (with --docs: their total by default).")
@click.option("--length", type=int, help="Tokens that are not padding (default: all).")
@click.option(
    "--docs",
    type=Numbers("4,3,3 or 4+3+3,5+2", ",", "+"),
    help="Document lengths, as 4,3,3. For share_question each is question+answer+answer..., as 4+3+3,5+2.",
)
@click.option("--padding", type=click.Choice(["hidden", "document"]), help="What the tokens after the documents are.")
@click.option("--prefix", type=Numbers("5 or 2,2,2"), help="Prefix length, one for each document.")
@click.option("--window", type=Numbers("3 or 2,1"), help="Window, or left,right.")
@click.option("--global-tokens", type=int, help="Leading tokens that see and are seen by all.")
@click.option("--dropped", type=Numbers("2:3,6:2", ",", ":"), help="offset:length of each span, as 2:3,6:2.")
@click.option("--buckets", type=click.IntRange(min=1), help="Number of hash buckets.")
@click.option("--start", type=int, help="First row that evicts: the cache size.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of a random mask (default 0).")
@click.option("--tile", type=(int, int), default=(128, 128), show_default=True, help="tile_q tile_k of the statistics.")
@click.option("--tiles", "show_tiles", is_flag=True, help="Draw full, partial and empty tiles instead of pairs.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture (.png, .svg, .pdf).")
def mask(name: str, tile: tuple[int, int], show_tiles: bool, output: Path | None, **options: Any) -> None:
    """Print the statistics of the mask NAME and, with --output, draw it.

    For example: paddle-flashmask mask causal_document --docs 4,3,3 --seqlen 12 --tile 4 4 --output mask.png
    """
    if show_tiles and output is None:
        raise click.UsageError("--tiles needs --output")
    built = _build(name, {option: value for option, value in options.items() if value is not None})
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
