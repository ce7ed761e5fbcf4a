"""PaddleNLP's DPO and KTO trainers, put right where they are wrong on one process, in data parallel or with packs."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddlenlp.trl import DPOTrainer, KTOCriterion, KTOTrainer

from .trainer import PackedOrder


class _Preferences(PackedOrder):
    def __init__(self, model, ref_model=None, **kwargs):
        super().__init__(model=model, ref_model=ref_model, **kwargs)
        # PaddleNLP looks at the direct children of the model only, where there is no dropout.
        for network in filter(None, (model, ref_model)):
            for layer in network.sublayers():
                if isinstance(layer, paddle.nn.Dropout):
                    layer.p = 0.0

    def _wrap_ref_model(self, model):
        """PaddleNLP hands the model to fleet.distributed_model, which fails with Paddle 3.3. The reference has no
        gradients that processes would have to share."""
        return model

    def log(self, logs, **kwargs):
        """PaddleNLP multiplies the epoch by num_train_epochs, which is wrong as soon as there are two of them."""
        epochs, self.args.num_train_epochs = self.args.num_train_epochs, 1
        try:
            super().log(logs, **kwargs)
        finally:
            self.args.num_train_epochs = epochs


class PackedDPOTrainer(_Preferences, DPOTrainer):
    """Scores every token of both answers.

    PaddleNLP's script passes ignore_eos_token=True, which leaves the first token of the rejected answer out of its
    log-probability (and shortens the mean of the chosen one) in the layout of paddlenlp 3.0.0b4.
    """

    def __init__(self, **kwargs):
        super().__init__(ignore_eos_token=False, **kwargs)


class KTOLoss(KTOCriterion):
    """PaddleNLP's criterion with the reference point of the paper, max(0, KL) (arXiv 2402.01306, section 4.1).

    PaddleNLP leaves the 0 out on one process and takes it on several.
    """

    def kto_loss(
        self,
        policy_chosen_logps,
        policy_rejected_logps,
        policy_kl_logps,
        reference_chosen_logps,
        reference_rejected_logps,
        reference_kl_logps,
    ):
        options = self.kto_config
        kl = (policy_kl_logps - reference_kl_logps).mean().detach().clip(min=0.0)
        losses = []
        if policy_chosen_logps.shape[0]:
            reward = policy_chosen_logps - reference_chosen_logps
            losses.append(options.desirable_weight * (1 - F.sigmoid(options.beta * (reward - kl))))
        if policy_rejected_logps.shape[0]:
            reward = policy_rejected_logps - reference_rejected_logps
            losses.append(options.undesirable_weight * (1 - F.sigmoid(options.beta * (kl - reward))))
        return paddle.concat(losses).mean(), kl


class PackedKTOTrainer(_Preferences, KTOTrainer):
    def __init__(self, model, kto_config, **kwargs):
        criterion = KTOLoss(model.config, kto_config=kto_config)
        super().__init__(model=model, kto_config=kto_config, kto_criterion=criterion, **kwargs)
