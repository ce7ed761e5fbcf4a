"""The checkpoints of an output folder: which are complete, which is the last, which are kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .atomic import read_json, remove_folder, write_json
from .folder import UNFINISHED

MANIFEST_NAME = "checkpoint.json"
_NAME = re.compile(r"checkpoint-(\d+)")
# Of a checkpoint without a manifest. PaddleNLP writes the scheduler last.
_NEEDED = ("trainer_state.json", "scheduler.pdparams")


def seal(checkpoint: Path, identity: dict[str, Any]) -> None:
    """Write the manifest: the size of every file, and the identity of the run."""
    files = {str(path.relative_to(checkpoint)): path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()}
    write_json(checkpoint / MANIFEST_NAME, {"files": files, "run": identity})


def identity_in(checkpoint: Path) -> dict[str, Any]:
    """The identity of the run that made a checkpoint; empty for one of PaddleNLP's own."""
    return (read_json(checkpoint / MANIFEST_NAME) or {}).get("run", {})


def step_of(checkpoint: Path) -> int:
    """Steps trained, from the trainer's state, because a named checkpoint may have any name."""
    return int((read_json(checkpoint / "trainer_state.json") or {}).get("global_step", 0))


def defect(checkpoint: Path) -> str | None:
    """What a checkpoint lacks, or None for a complete one."""
    if (checkpoint / MANIFEST_NAME).exists():
        manifest = read_json(checkpoint / MANIFEST_NAME)
        if not isinstance(manifest, dict) or "files" not in manifest:
            return f"{MANIFEST_NAME} cannot be read"
        sizes = manifest["files"]
    else:
        sizes = dict.fromkeys(_NEEDED)
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        found = path.stat().st_size
        if found == 0 and size != 0:
            return f"{name} is empty"
        if size is not None and found != size:
            return f"{name} has {found} bytes of {size}"
    return None


def checkpoints(output_dir: Path) -> list[Path]:
    """The folders `checkpoint-<step>`, complete or not, by step."""
    found = [(int(match[1]), path) for path in output_dir.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found) if path.is_dir()]


def last_complete(output_dir: Path, write: Callable[[str], None]) -> Path | None:
    """The last complete checkpoint, with a note for each incomplete one after it."""
    for path in reversed(checkpoints(output_dir)):
        lacking = defect(path)
        if lacking is None:
            return path
        write(f"note: {path} is incomplete and skipped: {lacking}")
    return None


def remove_old(output_dir: Path, limit: int | None, best: str | None) -> None:
    """Remove all but `limit` checkpoints: the last, the best where there is one, and the latest of the others.

    limit: `save_total_limit`; None or 0 keeps all. The last and the best are kept for any limit, as in PaddleNLP.
    """
    if not limit or limit < 0:
        return
    newest_first = checkpoints(output_dir)[::-1]
    first = newest_first[:1] + [path for path in newest_first[1:] if best and path.name == Path(best).name]
    rest = [path for path in newest_first if path not in first]
    for path in rest[max(limit - len(first), 0) :]:
        remove_folder(path, output_dir / UNFINISHED)
