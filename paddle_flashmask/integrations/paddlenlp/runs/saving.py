"""PaddleNLP's trainer with checkpoints and models that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paddle

from ..errors import RunError
from ..processes import context_group, is_first, wait_for_all
from .atomic import move_folder, sync_tree
from .checkpoints import checkpoints, defect, remove_old, seal, step_of
from .early_stopping import EarlyStopping, check_metric
from .finite import check_weights
from .folder import UNFINISHED, publish_model


def planned_steps(training: Any, batches: int) -> int:
    """Steps of a run as PaddleNLP counts them. training: its arguments. batches: of an epoch, in one process."""
    if training.max_steps > 0:
        return training.max_steps
    return int(max(batches // training.gradient_accumulation_steps, 1) * training.num_train_epochs)


class WholeSaves:
    """Mixin for PaddleNLP trainers.

    identity: of the run, for its checkpoints; see `identity_of`. early_stopping: what may end training early.
    """

    identity: dict[str, Any] = {}
    early_stopping: EarlyStopping | None = None

    def planned_steps(self) -> int:
        """Steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return planned_steps(self.args, len(self.get_train_dataloader()))

    def _inner_training_loop(self, args, model, loader, length, max_steps, epochs, *rest, **options):
        """Make no step from a checkpoint that has them all, or after which training was ended early: PaddleNLP tests
        for the end after a step only."""
        checkpoint = options.get("resume_from_checkpoint") or rest[2]
        if checkpoint is not None and (step_of(Path(checkpoint)) >= max_steps or self._ended_early(Path(checkpoint))):
            epochs = 0
        return super()._inner_training_loop(args, model, loader, length, max_steps, epochs, *rest, **options)

    def _ended_early(self, checkpoint: Path) -> bool:
        return self.early_stopping is not None and self.early_stopping.has_ended(checkpoint)

    def _check_loss_valid(self, loss):
        try:
            super()._check_loss_valid(loss)
        except ValueError as error:
            raise RunError(f"step {self.state.global_step + 1}: {error}") from error

    def _save_checkpoint(self, model, metrics=None):
        check_weights(self.model, self.state.global_step)
        if metrics is not None and self.args.metric_for_best_model is not None:
            check_metric(metrics, self.args.metric_for_best_model)
        output_dir = Path(self.args.output_dir)
        final = output_dir / f"checkpoint-{self.state.global_step}"
        staged = output_dir / UNFINISHED / final.name
        with self._whole(final, staged):
            with self._output_dir(staged.parent), self._one_copy():
                super()._save_checkpoint(model, metrics)
            wait_for_all()
            if self.state.best_model_checkpoint == str(staged):
                self.state.best_model_checkpoint = str(final)
            if is_first():
                self.state.save_to_json(str(staged / "trainer_state.json"))
                paddle.save(self.args, str(staged / "training_args.bin"))
                seal(staged, self.identity)
                sync_tree(staged)
                move_folder(staged, final)
                remove_old(output_dir, self.args.save_total_limit, self.state.best_model_checkpoint)
        wait_for_all()

    def _rotate_checkpoints(self, use_mtime=False, output_dir=None):
        """Do nothing: PaddleNLP never calls this in a single process, and orders the checkpoints by time of change."""

    def save_model(self, output_dir=None, merge_tensor_parallel=False):
        final = Path(self.args.output_dir)
        if output_dir is not None and Path(output_dir) != final:
            return super().save_model(output_dir, merge_tensor_parallel)
        check_weights(self.model, self.state.global_step)
        staged = final / UNFINISHED / "model"
        with self._whole(final, staged):
            with self._one_copy():
                super().save_model(str(staged), merge_tensor_parallel=True)
            wait_for_all()
            if is_first():
                publish_model(final)
        wait_for_all()

    @contextlib.contextmanager
    def _output_dir(self, folder: Path) -> Iterator[None]:
        output_dir, self.args.output_dir = self.args.output_dir, str(folder)
        try:
            yield
        finally:
            self.args.output_dir = output_dir

    @contextlib.contextmanager
    def _one_copy(self) -> Iterator[None]:
        """Let only the first process of a context parallel group save weights and optimizer states: all have the same.

        PaddleNLP does so for data parallel processes alone.
        """
        group = context_group()
        if group is None or group.rank == 0:
            yield
            return
        arguments, data_parallel = type(self.args), self.dp_group
        arguments.should_save_model_state, self.dp_group = False, SimpleNamespace(rank=1)
        try:
            yield
        finally:
            del arguments.should_save_model_state
            self.dp_group = data_parallel

    @contextlib.contextmanager
    def _whole(self, final: Path, staged: Path) -> Iterator[None]:
        """Remove what was written to `staged` if it cannot be completed. Raises RunError then."""
        try:
            if is_first():
                shutil.rmtree(staged, ignore_errors=True)
                staged.mkdir(parents=True)
            wait_for_all()
            yield
        except RunError:
            raise
        except Exception as error:
            shutil.rmtree(staged, ignore_errors=True)
            complete = [path for path in checkpoints(Path(self.args.output_dir)) if defect(path) is None]
            last = f"the last complete checkpoint is {complete[-1]}" if complete else "there is no complete checkpoint"
            raise RunError(f"{final} cannot be saved: {error}; {last}") from error
