"""The training tasks, and the choice of one for a configuration."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError
from .dpo import DPO
from .kto import KTO
from .rm import REWARD
from .sft import SFT
from .task import Task

TASKS = {task.key: task for task in (SFT, DPO, REWARD, KTO)}
DEFAULT = SFT

__all__ = ["DEFAULT", "TASKS", "Task", "task_of"]


def task_of(values: dict[str, Any], name: str) -> tuple[Task, str]:
    """The task of a configuration, and what it was inferred from, where neither `task` nor the default decides.

    values: the configuration. name: its file name without the ending.

    PaddleNLP has a script per task, so its files need no key for it, and its published dpo.json and rm.json have the
    same keys. Without `task`, a key that only one task has decides, then the word in the file's name.

    Raises ConfigError for an unknown task, and where several tasks are possible.
    """
    named = values.get("task")
    if named is not None:
        if named not in TASKS:
            raise ConfigError(f"task = {named!r} must be one of {', '.join(TASKS)}")
        return TASKS[named], ""
    for task in TASKS.values():
        found = [key for key in task.own_keys if key in values]
        if found:
            return task, "" if task is DEFAULT else f"from the key {found[0]}"
    words = {word for word in re.split(r"[^a-z]+", name.lower()) if word in TASKS}
    if len(words) == 1:
        return TASKS[words.pop()], "from the file's name"
    possible = [task.key for task in TASKS.values() if any(key in values for key in task.shared_keys)]
    if possible:
        raise ConfigError(
            f"the configuration fits several tasks: select one with the key task ({', '.join(possible)}), or put its "
            "name into the file's name"
        )
    return DEFAULT, ""
