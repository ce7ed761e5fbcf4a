"""PaddleNLP's trainers with a data order that a resumed run can repeat, and errors that reach the user."""

from __future__ import annotations

import itertools

import paddle
from paddle.io import DistributedBatchSampler
from paddlenlp.trainer.trainer_utils import has_length
from paddlenlp.trl import SFTTrainer


class SeededBatchSampler(DistributedBatchSampler):
    """Batches in an order that depends on the seed and the epoch alone.

    PaddleNLP's one-process sampler draws the order from NumPy's global generator, so a run resumed after the first
    epoch sees the data in another order than the run it continues.
    """

    def __init__(self, *args, seed: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.seed = seed

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch((self.seed * 1_000_003 + epoch) % 2**32)


class StreamLoader:
    """Batches of an iterable data set, read in the training thread.

    Paddle's DataLoader reads in a thread of its own and waits for ever when the data set raises there.
    """

    def __init__(self, dataset, batch_size: int, collate):
        self.dataset = dataset
        self.batch_size = batch_size
        self.collate = collate

    def __iter__(self):
        items = iter(self.dataset)
        while batch := list(itertools.islice(items, self.batch_size)):
            yield {key: paddle.to_tensor(value) for key, value in self.collate(batch).items()}


class PackedOrder:
    """Mixin of PaddleNLP trainers that read packs."""

    def get_train_dataloader(self):
        if has_length(self.train_dataset):
            return super().get_train_dataloader()
        return StreamLoader(self.train_dataset, self.args.per_device_train_batch_size, self.data_collator)

    def _get_train_sampler(self):
        if self.train_dataset is None or not has_length(self.train_dataset):
            return None
        return SeededBatchSampler(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            num_replicas=self.args.dataset_world_size,
            rank=self.args.dataset_rank,
            shuffle=True,
            drop_last=self.args.dataloader_drop_last,
            seed=self.args.seed,
        )


class PackedSFTTrainer(PackedOrder, SFTTrainer):
    pass
