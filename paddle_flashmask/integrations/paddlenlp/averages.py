"""Means over the tokens, pairs or answers of a whole optimizer step and of a whole evaluation."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import paddle
from paddlenlp.trainer.trainer_utils import EvalLoopOutput, has_length

from .config.arguments import PADDLENLP_AVERAGE
from .processes import joined


class Collected:
    """Numbers of batches, by name, until a mean over all of them and over all processes is wanted."""

    def __init__(self) -> None:
        self._batches: dict[str, list[np.ndarray]] = {}

    def add(self, **values: Any) -> None:
        """values: tensors or numbers, zero- or one-dimensional; every batch has the same names."""
        for name, value in values.items():
            value = value.detach().numpy() if isinstance(value, paddle.Tensor) else np.asarray(value)
            self._batches.setdefault(name, []).append(np.atleast_1d(value))

    def take(self) -> dict[str, np.ndarray]:
        """The numbers of all processes, each name's in one array, and start afresh. Every process must call it."""
        names = sorted(set(joined(np.array(list(self._batches), dtype=object))))
        empty = [np.zeros(0, dtype="float32")]
        taken = {name: joined(np.concatenate(self._batches.get(name, empty))) for name in names}
        self._batches = {}
        return taken


class StepAverages:
    """Mixin for PaddleNLP trainers: the loss is a mean over terms, independent of packs, micro-batches and processes.

    A term is a token, a pair, a question or an answer, as the task defines. PaddleNLP averages the means of the
    micro-batches and of the processes, which weights a term by how few others share its micro-batch. Here the
    micro-batches of a step are run together at its last one, when the terms of the whole step are known.

    loss_average = "paddlenlp" leaves both means to PaddleNLP.
    """

    def __init__(self, *args: Any, loss_average: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._paddlenlp_average = loss_average == PADDLENLP_AVERAGE
        self._micro_batches: list[dict[str, paddle.Tensor]] = []

    def count_terms(self, inputs: dict[str, paddle.Tensor]) -> list[int]:
        """Number of terms of each part of the loss."""
        raise NotImplementedError

    def weighted_loss(self, model: Any, inputs: dict[str, paddle.Tensor], weights: list[float]) -> paddle.Tensor:
        """Sum of the means over each part's terms, times its weight."""
        raise NotImplementedError

    def begin_step(self, model: Any, micro_batches: list[dict[str, paddle.Tensor]]) -> None:
        """Prepare what a loss needs from all micro-batches of a step."""

    def collect_evaluation(self, model: Any, inputs: dict[str, paddle.Tensor], collected: Collected) -> None:
        """Add the numbers of one batch."""
        raise NotImplementedError

    def evaluation_figures(self, values: dict[str, np.ndarray]) -> dict[str, float]:
        """Figures to log, the loss among them, from the numbers of all batches."""
        raise NotImplementedError

    def training_step(self, model: Any, inputs: dict[str, paddle.Tensor], step_control: int = 0) -> paddle.Tensor:
        """Run the whole step at its last micro-batch. Return values of a step sum to this process's share of its loss,
        whose mean over the processes is the loss of the step."""
        if self._paddlenlp_average:
            return super().training_step(model, inputs, step_control=step_control)
        if step_control == 0:
            self._micro_batches = []
        self._micro_batches.append(self._prepare_inputs(inputs))
        if len(self._micro_batches) < self.args.gradient_accumulation_steps:
            return paddle.zeros([])
        micro_batches, self._micro_batches = self._micro_batches, []
        counts = np.array([self.count_terms(batch) for batch in micro_batches])
        totals = joined(counts.sum(axis=0)).reshape([-1, counts.shape[1]])
        shares = counts * (len(totals) / np.maximum(totals.sum(axis=0), 1))
        model.train()
        with self.autocast_smart_context_manager():
            self.begin_step(model, micro_batches)
        loss = paddle.zeros([])
        for i, (batch, weights) in enumerate(zip(micro_batches, shares.tolist(), strict=True)):
            last = i == len(micro_batches) - 1
            with contextlib.nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync():
                with self.autocast_smart_context_manager():
                    part = self.weighted_loss(model, batch, weights)
                (self.scaler.scale(part) if self.do_grad_scaling else part).backward()
            loss += part.detach()
        return loss

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        max_eval_iters: int | None = -1,
    ) -> EvalLoopOutput:
        """PaddleNLP's loop with means over terms. Predictions are not kept."""
        if self._paddlenlp_average:
            return super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix, max_eval_iters
            )
        self.callback_handler.eval_dataloader = dataloader
        collected = Collected()
        self.model.eval()
        with paddle.no_grad():
            for i, inputs in enumerate(dataloader):
                with self.autocast_smart_context_manager():
                    self.collect_evaluation(self.model, self._prepare_inputs(inputs), collected)
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
                if i + 1 == max_eval_iters:
                    break
        self.model.train()
        figures = self.evaluation_figures(collected.take())
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in figures.items()}
        return EvalLoopOutput(None, None, metrics, len(dataloader.dataset) if has_length(dataloader.dataset) else 0)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """Every pack in one process. PaddleNLP repeats packs until all processes have equally many."""
        processes = self.args.dataset_world_size
        if self._paddlenlp_average or processes == 1:
            return super()._get_eval_sampler(eval_dataset)
        own = range(self.args.dataset_rank, len(eval_dataset), processes)
        return paddle.io.BatchSampler(sampler=_InOrder(own), batch_size=self.args.per_device_eval_batch_size)


class _InOrder(paddle.io.Sampler):
    def __init__(self, indices: range):
        super().__init__()
        self._indices = indices

    def __iter__(self):
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def mean(values: np.ndarray) -> float:
    """Mean in float64; 0 of nothing."""
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0
