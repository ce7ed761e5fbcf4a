"""Keys of how rows become tokens, for every task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import ConfigError


@dataclass
class TokenizationKeys:
    """Keys of ours. tokenize_processes: processes that turn rows into tokens, None for the cores, at most eight.
    tokenized_cache: a folder that keeps tokens for later runs."""

    tokenize_processes: Optional[int] = None  # noqa: UP045
    tokenized_cache: Optional[str] = None  # noqa: UP045


def check_tokenization(keys: TokenizationKeys) -> None:
    """Raise ConfigError where tokenized_cache is something else than a folder."""
    if keys.tokenized_cache and Path(keys.tokenized_cache).exists() and not Path(keys.tokenized_cache).is_dir():
        raise ConfigError(f"tokenized_cache = {keys.tokenized_cache!r} is not a folder")
