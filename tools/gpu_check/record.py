"""Record of a run, gpu_check.json, rewritten as a whole after every case."""

from __future__ import annotations

import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

from . import caches
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
    """Move the files of an earlier run into one archive: previous-1.tar.gz, previous-2.tar.gz, ...

    Few files may come back from a machine. The compilers' caches stay: this run writes them anew.
    """
    kept = re.compile(rf"previous-\d+\.tar\.gz|{re.escape(caches.ARCHIVE)}")
    old = [path for path in sorted(out.iterdir()) if path.is_file() and not kept.fullmatch(path.name)]
    if not old:
        return
    number = 1
    while (archive := out / f"previous-{number}.tar.gz").exists():
        number += 1
    with tarfile.open(archive, "w:gz") as tar:
        for path in old:
            tar.add(path, path.name)
    for path in old:
        path.unlink()
