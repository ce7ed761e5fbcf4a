"""Logs of a run for other tools: training_log.csv, and the records of VisualDL and TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import tempfile
from numbers import Number
from pathlib import Path
from typing import Any

from paddlenlp.trainer import TrainerCallback
from paddlenlp.trainer.integrations import TensorBoardCallback, VisualDLCallback

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


class TensorBoardLog(TensorBoardCallback):
    """PaddleNLP's callback with a name for each file of records, and every file closed.

    PaddleNLP's opens another file for the evaluation after training and never closes it. If the run took less than a
    second, it has the same name, and the records of training are lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened = 0
        self._training = False

    def _init_summary_writer(self, args, log_dir=None):
        self._opened += 1
        self.tb_writer = self._SummaryWriter(log_dir or args.logging_dir, filename_suffix=f".{self._opened}")

    def on_train_begin(self, args, state, control, **kwargs):
        self._training = True
        super().on_train_begin(args, state, control, **kwargs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=logs, **kwargs)
        if not self._training:
            super().on_train_end(args, state, control, **kwargs)

    def on_train_end(self, args, state, control, **kwargs):
        self._training = False
        super().on_train_end(args, state, control, **kwargs)


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
