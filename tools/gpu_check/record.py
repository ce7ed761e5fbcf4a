"""Record of a run, gpu_check.json, rewritten as a whole after every case."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .outcome import NOT_RUN, Result, outcome_of

FILE = "gpu_check.json"


class Record:
    """Content of gpu_check.json. A process that is killed while it writes leaves the previous version."""

    def __init__(self, out: Path, content: dict[str, Any]) -> None:
        self._path = out / FILE
        self.content = {**content, "parts": [], "outcome": NOT_RUN}
        self.write()

    def update(self, name: str, results: list[Result], seconds: float, budget: float) -> dict[str, Any]:
        """Replace the part with this name, the last one, or append it."""
        part = describe_part(name, results, seconds, budget)
        parts = [other for other in self.content["parts"] if other["name"] != name] + [part]
        self.content["parts"] = parts
        self.content["outcome"] = outcome_of([Result(entry["name"], entry["outcome"]) for entry in parts])
        self.write()
        return part

    def write(self) -> None:
        scratch = self._path.with_suffix(".tmp")
        scratch.write_text(json.dumps(self.content, indent=1) + "\n")
        os.replace(scratch, self._path)


def describe_part(name: str, results: list[Result], seconds: float, budget: float) -> dict[str, Any]:
    return {
        "name": name,
        "outcome": outcome_of(results),
        "seconds": round(seconds, 1),
        "budget_seconds": round(budget, 1),
        "cases": [vars(result) for result in results],
    }


def keep_previous(out: Path) -> None:
    """Move the files of an earlier run into a folder of their own: previous-1, previous-2, ..."""
    old = [path for path in out.iterdir() if path.is_file()]
    if not old:
        return
    number = 1
    while (folder := out / f"previous-{number}").exists():
        number += 1
    folder.mkdir()
    for path in old:
        path.rename(folder / path.name)
