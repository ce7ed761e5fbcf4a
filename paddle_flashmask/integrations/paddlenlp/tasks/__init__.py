"""The training tasks, and the choice of one for a configuration."""

from __future__ import annotations

from typing import Any

from ..config.task_name import task_name
from .dpo import DPO
from .kto import KTO
from .policy import POLICY
from .rm import REWARD
from .sft import SFT
from .task import Task

TASKS = {task.key: task for task in (SFT, DPO, REWARD, KTO, POLICY)}

__all__ = ["TASKS", "Task", "task_of"]


def task_of(values: dict[str, Any], name: str) -> tuple[Task, str]:
    """The task of a configuration, and what it was inferred from; see `task_name`."""
    key, inferred = task_name(values, name)
    return TASKS[key], inferred
