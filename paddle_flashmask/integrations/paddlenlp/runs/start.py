"""Where a run begins: at a checkpoint, afresh, or not at all because it has finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .atomic import read_json, write_json
from .checkpoints import checkpoints, defect, identity_in, last_complete
from .early_stopping import StoppingRule, stopping_rule
from .folder import recover, remove_run
from .identity import LAYOUT, check_identity

FINISHED_NAME = "finished.json"


@dataclass(frozen=True)
class Start:
    """checkpoint: folder to resume from. finished: there is nothing to do."""

    checkpoint: str | None = None
    finished: bool = False


def choose_start(arguments: Any, identity: dict[str, Any], write: Callable[[str], None]) -> Start:
    """Decide from resume_from_checkpoint, overwrite_output_dir and what output_dir holds.

    Raises ConfigError for a named checkpoint that is missing or incomplete, and for a run that cannot be continued.
    """
    training = arguments.training
    output_dir = Path(training.output_dir)
    recover(output_dir, write)
    if training.overwrite_output_dir:
        _check_overwrite(arguments, output_dir)
    named = training.resume_from_checkpoint
    wish = None if named is None else str(named).lower()
    if wish not in (None, "true", "false"):
        if not Path(named).is_dir():
            raise ConfigError(f"resume_from_checkpoint = {named!r} is not a folder")
        if lacking := defect(Path(named)):
            raise ConfigError(f"resume_from_checkpoint = {named!r} is incomplete: {lacking}")
        _check_format(Path(named), training, identity)
        check_identity(named, identity_in(Path(named)), identity, training, write)
        return Start(named)
    if training.overwrite_output_dir:
        return Start()
    finished = None if wish == "false" else read_json(output_dir / FINISHED_NAME)
    if finished is not None:
        check_identity(f"output_dir = {training.output_dir!r}", finished["run"], identity, training, write)
        if _is_enough(finished, training, stopping_rule(arguments)):
            early = " that stopped early" if finished.get("early_stopping") else ""
            write(
                f"nothing to do: {output_dir} holds a finished run of {finished['step']} steps{early}; "
                "set overwrite_output_dir to train afresh"
            )
            return Start(finished=True)
    found = None if wish == "false" else last_complete(output_dir, write)
    if found is None and wish == "true":
        raise ConfigError(f"resume_from_checkpoint = true, but there is no complete checkpoint in {output_dir}")
    if found is None and finished is not None:
        raise ConfigError(
            f"output_dir = {training.output_dir!r} holds a finished run of {finished['step']} steps and no checkpoint "
            "to continue from: choose another output_dir, or set overwrite_output_dir to train afresh"
        )
    if found is None:
        return Start()
    _check_format(found, training, identity)
    check_identity(str(found), identity_in(found), identity, training, write)
    write(f"note: resuming from {found}; set overwrite_output_dir to start afresh")
    return Start(str(found))


def begin(training: Any, start: Start) -> None:
    """Prepare output_dir for the first step: remove the mark of the last run's end, and with overwrite_output_dir
    all of that run but the checkpoint that this one begins at."""
    output_dir = Path(training.output_dir)
    if training.overwrite_output_dir:
        kept = None if start.checkpoint is None else Path(start.checkpoint).resolve()
        remove_run(output_dir, [path for path in checkpoints(output_dir) if path.resolve() != kept])
    (output_dir / FINISHED_NAME).unlink(missing_ok=True)


def mark_finished(training: Any, step: int, identity: dict[str, Any], ended_by: StoppingRule | None = None) -> None:
    """Record in output_dir that the run has made all its steps, or those up to its early end, and saved its model.

    ended_by: the rule that ended it early.
    """
    by_epochs = training.num_train_epochs if training.max_steps <= 0 else None
    record = {"step": step, "epochs": by_epochs, "run": identity}
    if ended_by is not None:
        record |= {"epochs": None, "early_stopping": dataclasses.asdict(ended_by)}
    write_json(Path(training.output_dir) / FINISHED_NAME, record)


def _is_enough(finished: dict[str, Any], training: Any, rule: StoppingRule | None) -> bool:
    if rule is not None and finished.get("early_stopping") == dataclasses.asdict(rule):
        return True
    if training.max_steps > 0:
        return finished["step"] >= training.max_steps
    return finished["epochs"] is not None and finished["epochs"] >= training.num_train_epochs


def _check_format(checkpoint: Path, training: Any, identity: dict[str, Any]) -> None:
    """Reject a checkpoint that PaddleNLP cannot read.

    unified_checkpoint reads both formats. The other format has a file for each part of the model and the optimizer.
    """
    if any(checkpoint.glob("*model.safetensors.index.json")):
        if not training.unified_checkpoint:
            raise ConfigError(f"{checkpoint} has the format of unified_checkpoint = true: set this key to continue")
        if training.world_size == 1 and len([*checkpoint.glob("optimizer-*.safetensors")]) > 1:
            raise ConfigError(
                f"{checkpoint} is of several processes that divided the model or the optimizer; PaddleNLP continues it "
                "in several processes only"
            )
        return
    old, new = identity_in(checkpoint).get(LAYOUT), identity[LAYOUT]
    if old is not None and old != new:
        raise ConfigError(
            f"{checkpoint} is divided by {_listed(old)}; now {_listed(new)}. Set these keys back; checkpoints with "
            "unified_checkpoint = true can be continued in another division"
        )


def _listed(layout: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in layout.items())


def _check_overwrite(arguments: Any, output_dir: Path) -> None:
    """Reject an output folder that holds what the run reads."""
    model = arguments.model
    for key in ("model_name_or_path", "tokenizer_name_or_path", "lora_path"):
        value = getattr(model, key, None)
        if value and Path(value).is_dir():
            folder = Path(value).resolve()
            if output_dir.resolve() in (folder, *folder.parents):
                raise ConfigError(
                    f"overwrite_output_dir would remove {key} = {value!r}, which lies in output_dir; "
                    "choose another output_dir"
                )
