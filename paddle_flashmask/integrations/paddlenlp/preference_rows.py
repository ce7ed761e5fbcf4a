"""Former module of `PreferenceLines`, which is now in `.data.preferences` and takes the `AnswerForm` of a task."""

from __future__ import annotations

import warnings

from . import tasks
from .data import preferences

__all__ = ["PreferenceLines"]


class PreferenceLines(preferences.PreferenceLines):
    """`data.preferences.PreferenceLines` with the key of a task in place of its form."""

    def __init__(self, path: str, task: str):
        super().__init__(path, getattr(tasks, task).FORM)


warnings.warn(
    f"{__name__} has moved: import PreferenceLines from {preferences.__name__}", DeprecationWarning, stacklevel=2
)
