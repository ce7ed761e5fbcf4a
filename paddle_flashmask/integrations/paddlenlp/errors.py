"""What is wrong with a configuration."""

from __future__ import annotations


class ConfigError(ValueError):
    """The configuration asks for something impossible or contradictory."""


class UnsupportedConfigError(NotImplementedError):
    """The configuration is a valid one of PaddleNLP, but this release does not do what it asks."""
