"""The key `report_to`: the tools that get the figures of a run."""

from __future__ import annotations

import importlib.util
from typing import Any

from ..errors import ConfigError

PACKAGES = {"visualdl": "visualdl", "autonlp": "ray", "wandb": "wandb", "tensorboard": "tensorboardX"}
"""Tools that PaddleNLP reports to, each with the package that it imports."""
ALONE = ("all", "none")
"""Values that stand for all tools that are installed, and for none."""


def default_report_to() -> str:
    """The default of `report_to`: PaddleNLP's, "visualdl", but "none" where VisualDL is not installed."""
    return "visualdl" if importlib.util.find_spec("visualdl") else "none"


def check_report_to(values: dict[str, Any]) -> None:
    """Raise ConfigError for a tool that PaddleNLP does not know, or whose package is not installed."""
    given = values.get("report_to", [])
    tools = given if isinstance(given, list) else [given]
    if len(tools) == 1 and tools[0] in ALONE:
        return
    for tool in tools:
        if tool not in PACKAGES:
            named = f"report_to = {given!r}"
            if tool in ALONE:
                raise ConfigError(f"{named}: {tool!r} must be the only value")
            raise ConfigError(f"{named}: {tool!r} must be one of {', '.join((*PACKAGES, *ALONE))}")
        if importlib.util.find_spec(PACKAGES[tool]) is None:
            raise ConfigError(f"report_to = {given!r} needs the package {PACKAGES[tool]}: pip install {PACKAGES[tool]}")
