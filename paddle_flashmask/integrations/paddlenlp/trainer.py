"""The data order of PaddleNLP's trainers on packs: repeatable in a resumed run, with errors that reach the user."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import paddle
from paddle.io import DistributedBatchSampler
from paddlenlp.trainer.integrations import TensorBoardCallback, VisualDLCallback
from paddlenlp.trainer.trainer_callback import PrinterCallback, ProgressCallback
from paddlenlp.trainer.trainer_utils import has_length

from paddle_flashmask.packing.counted import counted

from .errors import DataError
from .logs import TensorBoardLog, VisualDLLog
from .runs.saving import WholeSaves


class SeededBatchSampler(DistributedBatchSampler):
    """Batches in an order that depends only on the seed and the epoch, for whole steps only.

    PaddleNLP's one-process sampler draws the order from NumPy's global generator, so a run resumed after the first
    epoch reads the data in another order than the run it continues. If the batches of an epoch are not a multiple of
    those that a step accumulates, PaddleNLP adds the gradients of the last ones to the first step of the next epoch;
    here they are left out, different ones in every epoch. Several processes take whole batches in turn, and what
    remains after the last whole turn is left out as well, where Paddle would repeat packs.
    """

    def __init__(self, *args, seed: int, accumulated: int, **kwargs):
        self.accumulated = 1
        super().__init__(*args, **kwargs)
        self.seed = seed
        self.accumulated = accumulated

    def __len__(self) -> int:
        batches = super().__len__()
        if self.nranks > 1:
            batches = len(self.dataset) // (self.batch_size * self.nranks)
        return batches if batches < self.accumulated else batches - batches % self.accumulated

    def __iter__(self):
        order = list(range(len(self.dataset)))
        np.random.RandomState(self.epoch).shuffle(order)
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return iter(batches[self.local_rank :: self.nranks][: len(self)])

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch((self.seed * 1_000_003 + epoch) % 2**32)


def train_sampler(dataset: Any, training: Any) -> SeededBatchSampler:
    """The training batches of packs in memory. training: PaddleNLP's training arguments."""
    return SeededBatchSampler(
        dataset,
        batch_size=training.per_device_train_batch_size,
        num_replicas=training.dataset_world_size,
        rank=training.dataset_rank,
        shuffle=True,
        drop_last=training.dataloader_drop_last,
        seed=training.seed,
        accumulated=training.gradient_accumulation_steps,
    )


class StreamLoader:
    """Batches of an iterable data set, read in the training thread.

    Paddle's DataLoader reads in a thread of its own and hangs if the data set raises there. As with
    `SeededBatchSampler`, a pass has whole steps only. A pass without any would be repeated for ever and raises
    DataError. Every process reads the whole stream and takes its own batches from it.
    """

    def __init__(self, dataset, batch_size: int, collate, accumulated: int, processes: int, rank: int):
        self.accumulated = accumulated
        self.processes = processes
        self.rank = rank
        self.dataset = dataset
        self.batch_size = batch_size
        self.collate = collate

    def __iter__(self):
        items = iter(self.dataset)
        steps = 0
        while True:
            packs = list(itertools.islice(items, self.batch_size * self.accumulated * self.processes))
            batches = [packs[i : i + self.batch_size] for i in range(0, len(packs), self.batch_size)]
            if len(batches) < self.accumulated * self.processes:
                break
            steps += 1
            for batch in batches[self.rank :: self.processes]:
                yield {key: paddle.to_tensor(value) for key, value in self.collate(batch).items()}
        if steps == 0:
            found = counted(len(batches), "batch", plural="batches")
            raise DataError(
                f"the training data makes {found} of {counted(self.batch_size, 'pack')}, fewer than "
                f"gradient_accumulation_steps = {self.accumulated}{self._times_processes()}; with lazy = true no step "
                "would ever be complete"
            )

    def _times_processes(self) -> str:
        return f" on each of {self.processes} processes" if self.processes > 1 else ""


class PackedOrder(WholeSaves):
    """Mixin for PaddleNLP trainers that read packs."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for callback, ours in ((VisualDLCallback, VisualDLLog), (TensorBoardCallback, TensorBoardLog)):
            if self.pop_callback(callback) is not None:
                self.add_callback(ours)
        if self.pop_callback(ProgressCallback) is not None:  # the run has a bar of its own
            self.add_callback(PrinterCallback)

    def get_train_dataloader(self):
        if has_length(self.train_dataset):
            return super().get_train_dataloader()
        return StreamLoader(
            self.train_dataset,
            self.args.per_device_train_batch_size,
            self.data_collator,
            self.args.gradient_accumulation_steps,
            self.args.dataset_world_size,
            self.args.dataset_rank,
        )

    def _get_train_sampler(self):
        if self.train_dataset is None or not has_length(self.train_dataset):
            return None
        together = self.args.per_device_train_batch_size * self.args.dataset_world_size
        if self.args.dataset_world_size > 1 and len(self.train_dataset) < together:
            raise DataError(
                f"the training data makes {counted(len(self.train_dataset), 'pack')}, fewer than "
                f"per_device_train_batch_size = {self.args.per_device_train_batch_size} on each of "
                f"{self.args.dataset_world_size} processes"
            )
        return train_sampler(self.train_dataset, self.args)
