"""Errors of a configuration or of its data that the user can mend."""

from __future__ import annotations


class ConfigError(ValueError):
    """The configuration asks for something impossible or contradictory."""


class UnsupportedConfigError(NotImplementedError):
    """The configuration is valid in PaddleNLP, but this release does not support what it asks for."""


class DataError(ValueError):
    """A data file is missing, or one of its rows is unusable; the message names the file and the line."""
