"""Direct preference optimization (arXiv 2305.18290) and the other losses of PaddleNLP's DPOCriterion."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from paddlenlp.trl import DPOTrainer

from paddle_flashmask.packing import PreferenceCollator, pack_preference, stream_answers

from ..config.arguments import Arguments
from ..config.preference import LoRAOptions, settle_lora
from ..data.packs import Batch, labels_within, with_paddlenlp_names
from ..data.preferences import AnswerForm, PreferenceRow, TokenRow, ranked_row
from ..errors import ConfigError, UnsupportedConfigError
from .preference import PreferenceTrainer, model_and_reference, preference_task

# Loss types of PaddleNLP's DPOCriterion, by how they use a reference model.
REFERENCE_FREE_ONLY = ("or", "simpo")
REFERENCE_OR_FREE = ("sigmoid", "hinge", "ipo")
REFERENCE_ONLY = ("kto_pair", "sppo_hard", "nca_pair", "dpop")
LOSSES = (*REFERENCE_OR_FREE, *REFERENCE_ONLY, *REFERENCE_FREE_ONLY)


@dataclass
class DPOOptions(LoRAOptions):
    beta: float = 0.1
    simpo_gamma: float = 0.5
    label_smoothing: float = 0.0
    loss_type: str = "sigmoid"
    pref_loss_ratio: float = 1.0
    sft_loss_ratio: float = 0.0
    dpop_lambda: float = 50.0
    ref_model_update_steps: int = -1
    reference_free: bool = False


class PackedDPOTrainer(PreferenceTrainer, DPOTrainer):
    """Scores every token of both answers.

    PaddleNLP's script passes ignore_eos_token=True, which in the layout of paddlenlp 3.0.0b4 leaves the first token of
    the rejected answer out of its log-probability and shortens the mean of the chosen one.
    """

    def __init__(self, **kwargs):
        super().__init__(ignore_eos_token=False, **kwargs)


def _settle(arguments: Arguments, values: dict[str, Any]) -> None:
    options, notes = arguments.options, arguments.notes
    if options.loss_type == "orpo":
        options.loss_type, options.reference_free, options.sft_loss_ratio = "or", True, 1.0
        notes.append("loss_type orpo is 'or' with reference_free = true and sft_loss_ratio = 1")
    if options.loss_type not in LOSSES:
        raise ConfigError(f"loss_type = {options.loss_type!r} must be one of {', '.join(LOSSES)}, orpo")
    if options.loss_type in REFERENCE_FREE_ONLY and not options.reference_free:
        if "reference_free" in values:
            raise ConfigError(f"loss_type = {options.loss_type!r} has no reference; set reference_free to true")
        options.reference_free = True
        notes.append(f"reference_free is switched on: loss_type {options.loss_type} has no reference")
    if options.reference_free and options.loss_type in REFERENCE_ONLY:
        raise ConfigError(
            f"loss_type = {options.loss_type!r} needs a reference; reference_free goes with "
            f"{', '.join((*REFERENCE_OR_FREE, *REFERENCE_FREE_ONLY))}"
        )
    if options.beta <= 0:
        raise ConfigError(f"beta = {options.beta} must be positive")
    if options.label_smoothing and options.loss_type not in ("sigmoid", "simpo"):
        raise ConfigError(f"label_smoothing has no effect with loss_type = {options.loss_type!r}, only sigmoid, simpo")
    if options.ref_model_update_steps > 0:
        raise UnsupportedConfigError(
            f"ref_model_update_steps = {options.ref_model_update_steps} is not supported in this release: PaddleNLP "
            "counts micro-batches there, and a resumed run would have another reference"
        )
    settle_lora(arguments, values, has_reference=not options.reference_free)


def _tokens(prompt: list[int], answers: list[list[int]], row: PreferenceRow) -> TokenRow:
    return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}


def _adapt_batch(batch: Batch) -> Batch:
    batch = with_paddlenlp_names(batch)
    indices, labels = batch["response_indexs"], batch.pop("labels")
    batch["chosen_labels"] = labels_within(labels, indices[:, [0, 1, 2]])
    batch["rejected_labels"] = labels_within(labels, indices[:, [0, 2, 3]])
    return batch


def _trainer(arguments: Arguments, model: Any, **kwargs: Any) -> PackedDPOTrainer:
    return PackedDPOTrainer(dpo_config=arguments.options, **model_and_reference(arguments, model), **kwargs)


FORM = AnswerForm(
    read=functools.partial(ranked_row, counts=range(2, 3), expected="two answers for DPO"),
    tokens=_tokens,
)
DPO = preference_task(
    "dpo",
    DPOOptions,
    FORM,
    own_keys=(
        "simpo_gamma",
        "label_smoothing",
        "pref_loss_ratio",
        "sft_loss_ratio",
        "dpop_lambda",
        "ref_model_update_steps",
        "reference_free",
    ),
    settle=_settle,
    pack=pack_preference,
    stream=functools.partial(stream_answers, "preference"),
    collator_class=PreferenceCollator,
    adapt_batch=_adapt_batch,
    trainer=_trainer,
)
