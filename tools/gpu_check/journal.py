"""Journal of a run: one JSON object per line, written as things happen, so that it survives the processes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .outcome import Case, Result

FILE = "journal.jsonl"


class Journal:
    """Entries of one part in the journal that all parts share.

    Every write is one line, flushed. A line that its process did not finish is skipped.
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path, self.part = path, part
        self.planned: list[dict[str, Any]] | None = None  # name, seconds and row of each case, once known
        self.results: list[Result] = []
        self.unfinished: str | None = None  # case that is running, or was when its process ended
        self._offset = 0

    def plan(self, cases: list[Case]) -> None:
        self._write("planned", [{"name": case.name, "seconds": case.seconds, "row": case.row} for case in cases])

    def start(self, name: str) -> None:
        self._write("started", name)

    def finish(self, result: Result) -> None:
        self._write("finished", asdict(result))

    def _write(self, kind: str, value: Any) -> None:
        line = json.dumps({"part": self.part, kind: value}) + "\n"
        with self.path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())

    def refresh(self) -> bool:
        """Read the entries written since the last call. Returns whether there were any."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        taken = [self._take(line) for line in whole.splitlines()]
        return any(taken)

    def _take(self, line: bytes) -> bool:
        try:
            entry = json.loads(line)
        except ValueError:  # cut off when its process was killed
            return False
        if entry["part"] != self.part:
            return False
        if "planned" in entry:
            self.planned = entry["planned"]
        elif "started" in entry:
            self.unfinished = entry["started"]
        else:
            self.results.append(Result(**entry["finished"]))
            self.unfinished = None
        return True
