"""PaddleNLP's DPO and KTO trainers, put right where they are wrong on one process or with packs."""

from __future__ import annotations

import paddle
from paddlenlp.trl import DPOTrainer, KTOTrainer

from .trainer import PackedOrder


class _OneProcess(PackedOrder):
    def __init__(self, model, ref_model=None, **kwargs):
        super().__init__(model=model, ref_model=ref_model, **kwargs)
        # PaddleNLP looks at the direct children of the model only, where there is no dropout.
        for network in filter(None, (model, ref_model)):
            for layer in network.sublayers():
                if isinstance(layer, paddle.nn.Dropout):
                    layer.p = 0.0

    def _wrap_ref_model(self, model):
        """PaddleNLP hands the model to fleet.distributed_model, which fails on one process with Paddle 3.3."""
        return model

    def log(self, logs, **kwargs):
        """PaddleNLP multiplies the epoch by num_train_epochs, which is wrong as soon as there are two of them."""
        epochs, self.args.num_train_epochs = self.args.num_train_epochs, 1
        try:
            super().log(logs, **kwargs)
        finally:
            self.args.num_train_epochs = epochs


class PackedDPOTrainer(_OneProcess, DPOTrainer):
    """Scores every token of both answers.

    PaddleNLP's script passes ignore_eos_token=True, which leaves the first token of the rejected answer out of its
    log-probability (and shortens the mean of the chosen one) in the layout of paddlenlp 3.0.0b4.
    """

    def __init__(self, **kwargs):
        super().__init__(ignore_eos_token=False, **kwargs)


class PackedKTOTrainer(_OneProcess, KTOTrainer):
    pass
