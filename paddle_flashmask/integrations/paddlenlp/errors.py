"""Errors of a configuration or of its data that the user can mend."""

from __future__ import annotations


class ConfigError(ValueError):
    """The configuration asks for something impossible or contradictory."""


class UnsupportedConfigError(NotImplementedError):
    """The configuration is valid in PaddleNLP, but this release does not support what it asks for."""


class RunError(RuntimeError):
    """A run stopped before its end: by a signal, NaN, or a disk that takes no more. exit_code: for the command line."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


class DataError(ValueError):
    """A data file is missing, or one of its rows is unusable; the message names the file and the line."""
