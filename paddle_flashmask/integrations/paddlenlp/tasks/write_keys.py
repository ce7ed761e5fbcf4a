"""Write config/keys.json, the table of keys that is read before Paddle is imported.

usage: python -m paddle_flashmask.integrations.paddlenlp.tasks.write_keys
"""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from paddlenlp.trainer.trainer_utils import OptimizerNames, SchedulerType

from ..config.arguments import BACKENDS
from ..config.data_sets import DATA_KEYS
from . import TASKS, Task

PATH = Path(__file__).parent.parent / "config" / "keys.json"
_CONVERTED = {"lr_scheduler_type": SchedulerType, "optim": OptimizerNames}  # by PaddleNLP, after parsing
# Words that PaddleNLP compares with and does not check, or checks only after Paddle has been imported.
_WORDS = {
    "ckpt_quant_stage": ("O0", "O1", "O2"),
    "fp16_opt_level": ("O0", "O1", "O2"),
    "hybrid_parallel_topo_order": ("pp_first", "sharding_first"),
    "recompute_granularity": ("full", "full_attn", "core_attn"),
}
_TYPES = {bool: "switch", int: "integer", float: "number", str: "text", list: "list", dict: "object"}


def table() -> dict[str, Any]:
    """The content of keys.json: the tasks in order, the first being the default, and the keys by name."""
    keys: dict[str, Any] = {
        "task": {"type": "text"},
        "flashmask_backend": {"type": "choice", "choices": list(BACKENDS)},
    }
    tasks_of: dict[str, list[str]] = {}
    defaults: dict[str, list[Any]] = {}
    for task in TASKS.values():
        for group in task.groups:
            hints = typing.get_type_hints(group)
            for field in (field for field in dataclasses.fields(group) if field.init):
                keys.setdefault(field.name, _type_of(field.name, hints[field.name]))
                tasks_of.setdefault(field.name, []).append(task.key)
                defaults.setdefault(field.name, []).append(_default_of(field))
    for key, tasks in tasks_of.items():
        if len(tasks) < len(TASKS):
            keys[key]["tasks"] = tasks
        first, *others = defaults[key]
        if first is not None and all(other == first for other in others):
            keys[key]["default"] = first
    return {"tasks": {key: _record_of(task) for key, task in TASKS.items()}, "keys": dict(sorted(keys.items()))}


def _record_of(task: Task) -> dict[str, Any]:
    train, evaluate = (SimpleNamespace(do_train=trains, do_eval=not trains) for trains in (True, False))
    return {
        "own_keys": list(task.own_keys),
        "data_keys": {"do_train": list(task.data_keys(train)), "do_eval": list(task.data_keys(evaluate))},
        "choices": {key: list(words) for key, words in task.choices.items()},
        "figures": list(task.figures),
        "length_keys": [task.max_length_key, task.max_prompt_key],
    }


def _default_of(field: dataclasses.Field) -> Any:
    """The default, if JSON has it."""
    default = field.default.value if isinstance(field.default, enum.Enum) else field.default
    return default if isinstance(default, (bool, int, float, str)) else None


def _type_of(key: str, declared: Any) -> dict[str, Any]:
    if key in _WORDS:
        return {"type": "choice", "choices": list(_WORDS[key])}
    if key in DATA_KEYS:
        return {"type": "data sets"}
    declared = _CONVERTED.get(key, declared)
    if typing.get_origin(declared) is typing.Union:  # Optional
        declared = typing.get_args(declared)[0]
    kind = typing.get_origin(declared) or declared
    if issubclass(kind, enum.Enum):
        return {"type": "choice", "choices": [choice.value for choice in kind]}
    return {"type": _TYPES[kind]}


def text() -> str:
    """The table as JSON with a line for each task and key."""
    sections = []
    for name, entries in table().items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
        sections.append(f' "{name}": {{\n{lines}\n }}')
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
