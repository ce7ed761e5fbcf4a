"""The task of a configuration, from its keys and the name of its file, without importing Paddle."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError
from .keys import IDENTIFYING, TASKS, TASKS_OF


def task_name(values: dict[str, Any], name: str) -> tuple[str, str]:
    """The task of a configuration, and what it was inferred from, where neither `task` nor the default decides.

    values: the configuration. name: its file name without the ending; empty where it is no file.

    PaddleNLP has a script per task, so its files need no key for it, and its published dpo.json and rm.json have the
    same keys. Without `task`, a key that identifies a task decides (of tasks that share it, one that also has a key of
    its own among the values), then the word in the file's name.

    Raises ConfigError for an unknown task, and where several tasks are possible.
    """
    named = values.get("task")
    if named is not None:
        if named not in TASKS:
            raise ConfigError(f"task = {named!r} must be one of {', '.join(TASKS)}")
        return named, ""
    default = TASKS[0]
    found = [(key, task) for key, task in IDENTIFYING.items() if key in values]
    if found:
        key, task = found[0]
        others = ((own, other) for own, other in found if other != task and other in TASKS_OF[key])
        key, task = next(others, (key, task))
        return task, "" if task == default else f"from the key {key}"
    words = {word for word in re.split(r"[^a-z]+", name.lower()) if word in TASKS}
    if len(words) == 1:
        return words.pop(), "from the file's name"
    several = [TASKS_OF[key] for key in values if len(TASKS_OF.get(key, ())) > 1]
    possible = [task for task in TASKS if several and all(task in tasks for tasks in several)]
    if possible:
        raise ConfigError(
            f"the configuration fits several tasks: select one with the key task ({', '.join(possible)})"
            + (", or put its name into the file's name" if name else "")
        )
    return default, ""
