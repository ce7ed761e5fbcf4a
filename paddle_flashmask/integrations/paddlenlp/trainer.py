"""PaddleNLP's SFTTrainer with a data order that a resumed run can repeat."""

from __future__ import annotations

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


class PackedSFTTrainer(SFTTrainer):
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
