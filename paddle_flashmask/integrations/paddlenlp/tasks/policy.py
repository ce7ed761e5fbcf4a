"""Policy gradients on given rollouts: the clipped ratios of PPO (arXiv 1707.06347) with the advantages of GRPO.

The loss of a token with advantage A is -min(r A, clip(r, 1 - low, 1 + high) A) + beta k (arXiv 2402.03300, eq. 3). Here
r is its probability under the model over that under the behaviour policy, which drew it. Without log-probabilities of
the behaviour policy its value is taken from the model itself: r is 1, and the gradient is that of -A log p.
k = q - log q - 1 estimates the divergence from a reference model (eq. 4), where q is the probability of the token under
the reference over that under the model.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Optional

import paddle
from paddlenlp.trainer import Trainer
from paddlenlp.trl import DataConfig, ModelConfig, SFTConfig

from paddle_flashmask.packing import RolloutCollator, pack_tree, stream_tree

from ..averages import Collected, StepAverages
from ..config.arguments import Arguments
from ..config.run_options import RunOptions
from ..data.packs import with_paddlenlp_names
from ..data.rollouts import RolloutLines, RolloutTokens
from ..errors import ConfigError
from ..token_loss import LabelLogProbabilities, logits_of
from ..trainer import PackedOrder
from .instruction_packs import packing_order, settle_packing
from .preference import check_makes_logits, model_and_reference, model_inputs
from .prefix_trees import check_model_of_trees
from .task import Task

CLIP_RATIO = 0.2


@dataclass
class PolicyOptions(RunOptions):
    """Keys of this task.

    clip_ratio: how far a ratio may leave 1 before its token stops counting, CLIP_RATIO by default; clip_ratio_low and
    clip_ratio_high: the same below and above 1 (arXiv 2503.14476, section 3.1).
    beta: factor of the divergence from the model as it is before the first step; 0: none, and no reference model.
    loss_average: "tokens", the mean over all learned tokens of a step, or "rollouts", the mean over rollouts of the
    means over their tokens, as in GRPO.
    share_prefixes: store the tokens that rollouts have in common at their start once, as a prefix tree.
    """

    clip_ratio: Optional[float] = None  # noqa: UP045
    clip_ratio_low: Optional[float] = None  # noqa: UP045
    clip_ratio_high: Optional[float] = None  # noqa: UP045
    beta: float = 0.0
    loss_average: str = "tokens"
    share_prefixes: bool = True

    @property
    def reference_free(self) -> bool:
        """As DPO's key."""
        return self.beta == 0

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest ratio that counts in full."""
        single = CLIP_RATIO if self.clip_ratio is None else self.clip_ratio
        low = single if self.clip_ratio_low is None else self.clip_ratio_low
        high = single if self.clip_ratio_high is None else self.clip_ratio_high
        return 1 - low, 1 + high


def clipped_losses(
    ratios: paddle.Tensor, advantages: paddle.Tensor, bounds: tuple[float, float]
) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The losses, float32 [N], and which are clipped, bool [N]: those without a gradient.

    ratios, advantages: float32 [N]. bounds: as `PolicyOptions.bounds`.
    """
    clipped = ratios.clip(*bounds) * advantages
    plain = ratios * advantages
    return -paddle.minimum(plain, clipped), clipped < plain


def divergences(log_ratios: paddle.Tensor) -> paddle.Tensor:
    """r - log r - 1, at least 0: each an estimate of KL(p || q), where r = q / p and the token was drawn from p."""
    return log_ratios.exp() - log_ratios - 1


class PackedPolicyTrainer(StepAverages, PackedOrder, Trainer):
    """A term of the loss is a token of a rollout, however many rollouts share it.

    Figures of all tokens are logged. Where the data has log-probabilities: `ratio`, the mean of r; `clipped`, the share
    of tokens whose ratio is clipped; `kl`, the mean of r - log r - 1, an estimate of the divergence of the model from
    the behaviour policy. With a reference model: `reference_kl`, the mean of k.
    """

    def __init__(self, options: PolicyOptions, ref_model: Any, **kwargs: Any):
        """ref_model: None means the base of adapters, if options.beta is not 0."""
        super().__init__(loss_average=options.loss_average, **kwargs)
        self._by_rollout = options.loss_average == "rollouts"
        self._bounds = options.bounds()
        self._beta = options.beta
        self._reference = ref_model
        self._label_log_probabilities = LabelLogProbabilities()
        self._trained = Collected()

    def count_terms(self, inputs):
        """Learned tokens, each in every rollout, or rollouts."""
        rollouts = inputs["label_places"][:, 2]
        return [len(rollouts.unique()) if self._by_rollout else len(rollouts)]

    def weighted_loss(self, model, inputs, weights):
        total = self._loss_sum(model, inputs, self._trained)
        return total / max(self.count_terms(inputs)[0], 1) * weights[0]

    def collect_evaluation(self, model, inputs, collected: Collected):
        collected.add(loss=self._loss_sum(model, inputs, collected), terms=self.count_terms(inputs)[0])

    def evaluation_figures(self, values):
        return {"loss": values["loss"].sum(dtype="float64") / max(values["terms"].sum(), 1), **_means(values)}

    def log(self, logs, **kwargs):
        if "loss" in logs:
            logs.update(_means(self._trained.take()))
        super().log(logs, **kwargs)

    def _loss_sum(self, model, inputs, collected: Collected) -> paddle.Tensor:
        """The sum over all terms, float32 []. Adds the sums of the figures."""
        found = self._log_probabilities(model, inputs)
        log_ratios = found - inputs.get("log_probabilities", found.detach())
        ratios = log_ratios.exp()
        losses, clipped = clipped_losses(ratios, inputs["advantages"], self._bounds)
        collected.add(tokens=losses.shape[0])
        if "log_probabilities" in inputs:
            collected.add(ratio=ratios.sum(), clipped=clipped.sum(), kl=divergences(log_ratios).sum())
        if self._beta:
            reference_kl = divergences(self._reference_log_probabilities(inputs) - found)
            losses = losses + self._beta * reference_kl
            collected.add(reference_kl=reference_kl.sum())
        if self._by_rollout:
            rollouts = inputs["label_places"][:, 2]
            losses = losses / paddle.bincount(rollouts).astype("float32").index_select(rollouts)
        return losses.sum()

    def _reference_log_probabilities(self, inputs) -> paddle.Tensor:
        with paddle.no_grad():
            if self._reference is not None:
                return self._log_probabilities(self._reference, inputs)
            training = self.model.training
            self.model.eval()
            self.model.disable_lora()
            found = self._log_probabilities(self.model, inputs)
            self.model.enable_lora()
            if training:
                self.model.train()
            return found

    def _log_probabilities(self, model, inputs) -> paddle.Tensor:
        """float32 [N]: of every term's token under the model."""
        logits = logits_of(model(**model_inputs(inputs)))
        return self._label_log_probabilities(logits, inputs["labels"], inputs["label_places"])


def _means(values: dict[str, Any]) -> dict[str, float]:
    """The means of the figures over all tokens, from their sums."""
    names = [name for name in ("ratio", "clipped", "kl", "reference_kl") if name in values]
    return {name: float(values[name].sum(dtype="float64") / max(values["tokens"].sum(), 1)) for name in names}


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    options = arguments.options
    given = [key for key in ("clip_ratio_low", "clip_ratio_high") if getattr(options, key) is not None]
    if given and options.clip_ratio is not None:
        raise ConfigError(f"clip_ratio and {', '.join(given)} contradict each other: give one bound, or two")
    if len(given) == 1:
        raise ConfigError(f"{given[0]} needs the other bound too; clip_ratio alone sets both")
    if options.beta and arguments.model.lora and arguments.model.pissa:
        raise ConfigError("pissa = true changes the base, which is the reference of beta; use plain lora")
    settle_packing(arguments)


def _rows(arguments: Arguments, tokenizer: Any, split: str) -> RolloutTokens:
    data = arguments.data
    lines = RolloutLines(arguments.data_sets["dataset_name_or_path"], split, arguments.training.seed)
    return RolloutTokens(lines, tokenizer, data.src_length, data.max_length)


def _packing_options(arguments: Arguments) -> dict[str, Any]:
    order = packing_order(arguments.data)
    return {"order": order, "too_long": "error", "share_prefixes": arguments.options.share_prefixes}


def _settle_model(arguments: Arguments, config: Any) -> None:
    check_makes_logits(config, POLICY.key)
    if arguments.options.share_prefixes:
        check_model_of_trees(config)


def _trainer(arguments: Arguments, model: Any, **kwargs: Any) -> PackedPolicyTrainer:
    return PackedPolicyTrainer(options=arguments.options, **model_and_reference(arguments, model), **kwargs)


POLICY = Task(
    key="policy",
    choices={"loss_average": ("tokens", "rollouts")},
    own_keys=("clip_ratio", "clip_ratio_low", "clip_ratio_high"),
    groups=(ModelConfig, DataConfig, SFTConfig, PolicyOptions),
    settle=_settle,
    data_keys=lambda training: ["dataset_name_or_path"],
    figures=("loss", "ratio", "clipped", "kl", "reference_kl"),
    max_length_key="max_length",
    max_prompt_key="src_length",
    rows=_rows,
    pack=pack_tree,
    stream=stream_tree,
    packing_options=_packing_options,
    collator_class=RolloutCollator,
    adapt_batch=with_paddlenlp_names,
    labels=operator.itemgetter("labels"),
    settle_model=_settle_model,
    trainer=_trainer,
)
