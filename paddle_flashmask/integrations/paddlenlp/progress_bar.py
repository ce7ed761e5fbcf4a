"""A bar for training and for every evaluation, below the lines of the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from paddlenlp.trainer import TrainerCallback
from paddlenlp.trainer.trainer_utils import has_length
from tqdm import tqdm

from .processes import is_first
from .progress import ProgressLines

_TRAINING = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}{postfix}]"
_EVALUATION = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} batches [{elapsed}<{remaining}]"


class ProgressBar(TrainerCallback):
    """Shows steps, the time that is left, tokens/s and the last logged loss; while it evaluates, batches as well.

    It comes after `progress` among the callbacks, whose figures it shows. As a context manager it removes what an error
    leaves on the terminal.
    """

    def __init__(self, progress: ProgressLines, file: TextIO):
        self.progress = progress
        self.file = file
        self._training: tqdm | None = None
        self._evaluation: tqdm | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._close_evaluation()
        self._close_training()

    def on_train_begin(self, args, state, control, **kwargs):
        self._training = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            file=self.file,
            bar_format=_TRAINING,
            **_width(self.file),
        )

    def on_step_end(self, args, state, control, **kwargs):
        self._training.update(state.global_step - self._training.n)

    def on_log(self, args, state, control, **kwargs):
        if self._training is not None and self.progress.losses:
            rate, loss = self.progress.tokens_per_second(), self.progress.losses[-1][1]
            self._training.set_postfix_str(f"{rate:,.0f} tokens/s, loss {loss:.4f}")

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        if self._evaluation is None:
            total = len(eval_dataloader) if has_length(eval_dataloader.dataset) else None
            self._evaluation = tqdm(
                total=total,
                desc="evaluation",
                file=self.file,
                bar_format=_EVALUATION,
                leave=False,
                **_width(self.file),
            )
        self._evaluation.update()

    def on_evaluate(self, args, state, control, **kwargs):
        self._close_evaluation()

    def on_train_end(self, args, state, control, **kwargs):
        self._close_training()

    def _close_training(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None

    def _close_evaluation(self) -> None:
        if self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None


def _width(file: TextIO) -> dict[str, Any]:
    """tqdm's arguments on the width: that of the terminal, or 80 columns where it has none, as in some containers.

    For those tqdm would show an empty line.
    """
    try:
        known = os.get_terminal_size(file.fileno()).columns > 0
    except OSError:
        known = False
    return {"dynamic_ncols": True} if known else {"ncols": 80}


def is_shown(training: Any, file: TextIO) -> bool:
    """Whether this process shows a bar: the first one, in a terminal, unless disable_tqdm is true.

    training: PaddleNLP's training arguments.
    """
    return not training.disable_tqdm and is_first() and file.isatty()


def beside_bars(write: Callable[[str], None]) -> Callable[[str], None]:
    """`write` with the bars taken off the terminal meanwhile."""

    def written(line: str) -> None:
        with tqdm.external_write_mode(file=sys.stdout):
            write(line)

    return written
