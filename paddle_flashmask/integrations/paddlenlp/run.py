"""One run of a task, from its arguments to the record of what was trained."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddle_flashmask.packing import PackingReport

from .config.arguments import Arguments
from .data.packs import PackDataset, Packs, PackStreamDataset, TokenRows
from .errors import RunError
from .inputs import RunInputs, check_not_empty, packing_line, taken_rows
from .processes import from_first, is_first
from .runs.atomic import write_json
from .runs.checkpoints import step_of
from .runs.identity import identity_of
from .runs.lock import folder_lock
from .runs.settle import nothing_saved, saves
from .runs.start import Start, begin, choose_start, mark_finished
from .tasks import Task

SUMMARY_NAME = "training_summary.json"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class TrainingResult:
    """The record of one run. Steps that a resumed run did not take itself do not count.

    losses: (step, training loss) of every logged step. evaluations: {"step", "eval_loss", ...} of every evaluation.
    cut_rows: training rows that lost tokens to a length limit. tokens: of documents, without padding.
    step_seconds: wall time of every training step, without loading, evaluation and saving.
    metrics: {"step", ...} of every logged step: the loss, and rewards, accuracy or margin where the task has them.
    data_sets: {"path", "weight", "rows", "taken"} of every data set of training, where there are several or weights.
    stopped_early: whether early_stopping_patience ended the run.
    """

    losses: list[tuple[int, float]]
    evaluations: list[dict[str, float]]
    packing: PackingReport | None
    cut_rows: int
    tokens: int
    step_seconds: list[float]
    output_dir: str
    metrics: list[dict[str, float]] = field(default_factory=list)
    data_sets: list[dict[str, Any]] = field(default_factory=list)
    stopped_early: bool = False

    def write(self, path: Path) -> None:
        values = {**vars(self), "packing": self.packing.to_dict() if self.packing is not None else None}
        write_json(path, values)


def run(
    task: Task, arguments: Arguments, write: Callable[[str], None], callbacks: Sequence[Any] = ()
) -> TrainingResult:
    """Load, pack, train, evaluate and save, inside a `training_session`.

    callbacks: of PaddleNLP's trainer, called after those of the run. Raises TypeError for one that is none.
    """
    _check_callbacks(callbacks)
    output_dir = Path(arguments.training.output_dir)
    try:
        with contextlib.ExitStack() as held:
            from_first(lambda: held.enter_context(folder_lock(output_dir, write)))
            return _run_in_folder(task, arguments, write, callbacks)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise RunError(f"{error.filename or output_dir} cannot be written: {error.strerror}") from error


def _check_callbacks(callbacks: Sequence[Any]) -> None:
    from paddlenlp.trainer import TrainerCallback

    for callback in callbacks:
        if not isinstance(callback, TrainerCallback):
            raise TypeError(f"callbacks must be instances of paddlenlp.trainer.TrainerCallback; got {callback!r:.80}")


def _run_in_folder(
    task: Task, arguments: Arguments, write: Callable[[str], None], callbacks: Sequence[Any]
) -> TrainingResult:
    from paddlenlp.trainer import set_seed

    from .logs import CSVLog, check_logging_dir
    from .progress import ProgressLines
    from .progress_bar import ProgressBar, beside_bars, is_shown
    from .runs.early_stopping import EarlyStopping, stopping_rule
    from .runs.finite import FiniteGradients, check_weights
    from .runs.schedule import schedule_notes
    from .runs.signals import StopOnSignal
    from .trainer import train_sampler

    training = arguments.training
    if training.do_train and training.report_to:
        from_first(lambda: check_logging_dir(training))
    inputs = RunInputs.load(task, arguments, write)
    train_rows = inputs.rows("train") if training.do_train else None
    eval_rows = inputs.rows("dev") if training.do_eval else None
    identity, start = {}, Start()
    if training.do_train and saves(training):
        identity = identity_of(task.key, arguments, train_rows.data_sets)
        start = from_first(lambda: choose_start(arguments, identity, write))
    if start.finished:
        return _nothing_done(training)
    set_seed(training.seed)
    inputs.settle_model()
    model = inputs.model()
    check_weights(model, 0)

    train_data = inputs.packs(train_rows, "train") if train_rows is not None else None
    eval_data = inputs.packs(eval_rows, "dev") if eval_rows is not None else None
    _announce("training", train_data, train_rows, write)
    _announce("evaluation", eval_data, eval_rows, write)
    if train_data is not None:
        batches = len(train_sampler(train_data, training)) if isinstance(train_data, PackDataset) else None
        for note in schedule_notes(training, batches):
            write(f"note: {note}")

    shows_bar = is_shown(training, sys.stderr)
    write = beside_bars(write) if shows_bar else write
    progress, signals = ProgressLines(write), StopOnSignal(saves(training))
    bars = [ProgressBar(progress, sys.stderr)] if shows_bar else []
    rule = stopping_rule(arguments)
    early = [EarlyStopping(rule)] if rule is not None else []
    samples = _samples(inputs, eval_rows, write)
    own = [progress, CSVLog(), FiniteGradients(), signals, *early, *bars, *samples]
    trainer = inputs.trainer(model, train_data, eval_data, [*own, *callbacks])
    for sample in samples:
        sample.autocast = trainer.autocast_smart_context_manager
    trainer.identity = identity
    trainer.early_stopping = early[0] if early else None
    if start.checkpoint is not None and (done := _steps_beyond(trainer, start.checkpoint)):
        write(f"nothing to do: {start.checkpoint} has {done} steps, and the run asks for {trainer.planned_steps()}")
        return _nothing_done(training)
    if training.do_train and saves(training):
        from_first(lambda: begin(training, start))
    with bars[0] if bars else contextlib.nullcontext():
        return _run_to_end(trainer, progress, signals, start, train_data, train_rows, write)


def _samples(inputs: RunInputs, rows: TokenRows | None, write: Callable[[str], None]) -> list[Any]:
    """The callback of generate_samples, where it is set. rows: of the evaluation data."""
    count = getattr(inputs.arguments.options, "generate_samples", 0)
    if not count or rows is None:
        return []
    from .samples import Samples, questions_of

    longest = max(inputs.task.max_length(inputs.arguments), getattr(inputs.config, "max_position_embeddings", 0) or 0)
    most = inputs.arguments.options.generate_max_new_tokens
    return [Samples(inputs.tokenizer, questions_of(rows, count), most, longest, write)]


def _steps_beyond(trainer: Any, checkpoint: str) -> int:
    """Steps of a checkpoint that has more than the run asks for, or else 0."""
    done = step_of(Path(checkpoint))
    return done if done > trainer.planned_steps() else 0


def _nothing_done(training: Any) -> TrainingResult:
    return TrainingResult([], [], None, 0, 0, [], training.output_dir)


def _announce(name: str, data: Packs | None, rows: TokenRows | None, write: Callable[[str], None]) -> None:
    """Report how the rows were packed. A stream is packed later. Raises ConfigError where there are no rows."""
    if not isinstance(data, PackDataset):
        return
    write(packing_line(name, data, rows))
    check_not_empty(name, data, rows)


def _run_to_end(
    trainer: Any,
    progress: Any,
    signals: Any,
    start: Start,
    data: Packs | None,
    rows: TokenRows | None,
    write: Callable[[str], None],
) -> TrainingResult:
    """Train, evaluate and save as the trainer's arguments ask, and write the record to output_dir.

    data, rows: those of training.
    """
    training, early = trainer.args, None
    if training.do_train:
        with signals:
            outcome = trainer.train(resume_from_checkpoint=start.checkpoint)
        early = trainer.early_stopping if trainer.early_stopping is not None and trainer.early_stopping.ended else None
        if signals.stopped is not None:
            raise _stopped(trainer, signals.stopped)
        if early is not None:
            write(early.line(trainer.state.global_step, trainer.state.max_steps))
        if saves(training):
            trainer.save_model()
            trainer.log_metrics("train", outcome.metrics)
            trainer.save_metrics("train", outcome.metrics)
            trainer.save_state()
        if isinstance(data, PackStreamDataset):
            write(packing_line("training (last pass)", data, rows))
    if training.do_eval:
        metrics = trainer.evaluate()
        if not training.benchmark:
            trainer.log_metrics("eval", metrics)
            trainer.save_metrics("eval", metrics)
    result = TrainingResult(
        losses=progress.losses,
        evaluations=progress.evaluations,
        packing=data.packs.report if data is not None else None,
        cut_rows=rows.cut_rows + data.packs.report.truncated_rows if data is not None else 0,
        tokens=progress.tokens,
        step_seconds=progress.step_seconds,
        output_dir=training.output_dir,
        metrics=progress.metrics,
        data_sets=taken_rows(rows) if rows is not None else [],
        stopped_early=early is not None,
    )
    if training.should_save:
        result.write(Path(training.output_dir) / SUMMARY_NAME)
    if training.do_train and saves(training) and is_first():
        mark_finished(training, trainer.state.global_step, trainer.identity, None if early is None else early.rule)
    if training.do_train and not saves(training):
        write(nothing_saved(training))
    return result


def _stopped(trainer: Any, number: signal.Signals) -> RunError:
    """The error that ends a run after a signal, with the exit status that the shell gives one killed by it."""
    state, training = trainer.state, trainer.args
    saved = f"saved checkpoint-{state.global_step} in {training.output_dir}; start again to continue"
    return RunError(
        f"stopped by {number.name} after step {state.global_step} of {state.max_steps}: "
        + (saved if saves(training) else "nothing was saved"),
        exit_code=128 + number,
    )
