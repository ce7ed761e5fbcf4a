"""Files and folders that appear whole or not at all: written under a temporary name, synchronized, renamed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file. A reader finds the old content or the new one."""
    temporary = path.with_name(f".{path.name}.unfinished")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where the file is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def sync_tree(folder: Path) -> None:
    """Write every file of a folder to the disk. A full disk may be reported here first."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder that `sync_tree` has written. A folder at the target is replaced."""
    replaced = source.with_name(f"{source.name}.replaced")
    if target.exists():
        os.replace(target, replaced)
    os.replace(source, target)
    sync_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_folder(folder: Path, trash: Path) -> None:
    """Remove a folder in one step: rename it into `trash`, which is on the same disk, then delete it there."""
    trash.mkdir(exist_ok=True)
    gone = trash / f"{folder.name}.removed"
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
