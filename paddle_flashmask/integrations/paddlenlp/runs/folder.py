"""The files of a run in its output folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from .atomic import remove_folder, sync_folder, sync_tree

UNFINISHED = ".unfinished"
"""Holds checkpoints and models while they are written."""
COMPLETE_MODEL = ".model"
"""Holds a complete final model until the old weights are removed."""
MOVING_MODEL = ".model.moving"
"""Holds the files of that model that are not in their place yet."""

# Weights and adapters in every format of PaddleNLP, which reads only one of the formats in a folder.
WEIGHTS = ("model_state*.pdparams*", "model*.safetensors*", "lora_model_state*", "peft_model*", "lora_config.json")
_RESULTS = (
    "finished.json",
    "training_summary.json",
    "training_log.csv",
    "samples.jsonl",
    "trainer_state.json",
    "training_args.bin",
    "all_results.json",
    "train_results.json",
    "eval_results.json",
    "config.json",
    "generation_config.json",
)


def recover(output_dir: Path, write: Callable[[str], None]) -> None:
    """Complete or drop what a killed run left: put a complete model in its place, remove what was half written."""
    if any((output_dir / name).is_dir() for name in (COMPLETE_MODEL, MOVING_MODEL)):
        _put_in_place(output_dir)
        write(f"note: the last run in {output_dir} was killed while it saved its model; the model is complete now")
    unfinished = output_dir / UNFINISHED
    if unfinished.is_dir():
        for path in sorted(unfinished.iterdir()):
            if path.suffix not in (".removed", ".replaced"):
                write(f"note: {path.name} was not complete when the last run in {output_dir} was killed; it is dropped")
        shutil.rmtree(unfinished)


def publish_model(output_dir: Path) -> None:
    """Replace the model of output_dir by the one in UNFINISHED/model.

    At any moment the folder holds the old model, none that can be loaded, or the new one; `recover` completes a
    replacement that was killed.
    """
    staged = output_dir / UNFINISHED / "model"
    sync_tree(staged)
    os.replace(staged, output_dir / COMPLETE_MODEL)
    _put_in_place(output_dir)


def remove_run(output_dir: Path, checkpoints: Iterable[Path]) -> None:
    """Remove a run: its checkpoints, weights of every format and results. Other files of the folder stay."""
    for path in checkpoints:
        remove_folder(path, output_dir / UNFINISHED)
    for pattern in (*WEIGHTS, *_RESULTS):
        for path in output_dir.glob(pattern):
            path.unlink()


def _put_in_place(output_dir: Path) -> None:
    complete, moving = output_dir / COMPLETE_MODEL, output_dir / MOVING_MODEL
    if complete.is_dir():
        for pattern in WEIGHTS:
            for path in output_dir.glob(pattern):
                path.unlink()
        os.replace(complete, moving)
    weights = {path.name for pattern in WEIGHTS for path in moving.glob(pattern)}
    # Last what a loader looks for.
    for path in sorted(moving.iterdir(), key=lambda path: (path.name in weights, path.suffix == ".json", path.name)):
        target = output_dir / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    sync_folder(output_dir)
    moving.rmdir()
