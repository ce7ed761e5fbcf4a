"""Logs of a run for other tools: training_log.csv, and VisualDL's records if it is installed."""

from __future__ import annotations

import contextlib
import csv
import tempfile
from numbers import Number
from pathlib import Path
from typing import Any

from paddlenlp.trainer import TrainerCallback
from paddlenlp.trainer.integrations import VisualDLCallback

from .errors import ConfigError

CSV_NAME = "training_log.csv"
_COLUMNS = ("step", "epoch", "name", "value")


class CSVLog(TrainerCallback):
    """Writes every number logged from the start of training to the end of the run to training_log.csv in output_dir.

    A resumed run keeps the rows up to its checkpoint; any other run starts a new file.
    """

    def __init__(self):
        self._path: Path | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        self._path = Path(args.output_dir) / CSV_NAME
        kept = [row for row in _read(self._path) if int(row["step"]) <= state.global_step] if state.global_step else []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self._path is None:
            return
        with open(self._path, "a", newline="", encoding="utf-8") as file:
            for name, value in (logs or {}).items():
                if isinstance(value, Number):
                    csv.writer(file).writerow([state.global_step, state.epoch, name, value])


class VisualDLLog(VisualDLCallback):
    """PaddleNLP's callback with hyper-parameters that protobuf 7 accepts: booleans as integers."""

    def _init_summary_writer(self, args, log_dir=None):
        super()._init_summary_writer(args, log_dir)
        add_hparams = self.vdl_writer.add_hparams

        def add_numbers(hparams_dict, metrics_list, **kwargs):
            numbers = {key: int(value) if isinstance(value, bool) else value for key, value in hparams_dict.items()}
            add_hparams(numbers, metrics_list, **kwargs)

        self.vdl_writer.add_hparams = add_numbers


def check_logging_dir(training: Any) -> None:
    """Raise ConfigError where logging_dir cannot be made or written. The folder is left as it was.

    training: PaddleNLP's training arguments.
    """
    folder = Path(training.logging_dir)
    made: list[Path] = []
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"logging_dir = {str(folder)!r} cannot be written: {error.strerror}") from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
