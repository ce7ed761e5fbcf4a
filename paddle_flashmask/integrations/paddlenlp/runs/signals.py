"""SIGTERM and Ctrl-C end a run after its current step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from paddlenlp.trainer import TrainerCallback

from ..processes import of_every_process


class StopOnSignal(TrainerCallback):
    """Saves a checkpoint and ends training after the step in which a signal arrives in any process.

    As a context manager it listens; a second signal has its usual effect. stopped: the signal, once training ended
    before its last step.
    """

    def __init__(self, saves: bool):
        self.saves = saves
        self.stopped: signal.Signals | None = None
        self._received = 0
        self._handlers: dict[int, Callable | int | None] = {}

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        self._restore()

    def on_step_end(self, args, state, control, **kwargs):
        received = max(of_every_process(self._received))
        if received and state.global_step < state.max_steps:
            self.stopped = signal.Signals(received)
            control.should_training_stop = True
            control.should_save = self.saves
        return control

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.stopped is not None:  # saved and evaluated after the step
            control.should_save = control.should_evaluate = False
        return control

    def _receive(self, number: int, frame: object) -> None:
        self._received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
