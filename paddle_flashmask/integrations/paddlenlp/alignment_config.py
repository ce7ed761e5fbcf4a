"""Configurations of DPO, reward-model and KTO runs: the keys of PaddleNLP's llm/alignment scripts.

PaddleNLP ships their argument classes only as repository scripts; the dataclasses here carry the same keys with the
same defaults and meaning.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from paddlenlp.trl import ModelConfig, SFTConfig

from .config import (
    Arguments,
    ConfigError,
    UnsupportedConfigError,
    check_common,
    parse_groups,
    read_values,
    settle_machine,
    take_backend,
)

# Loss types of PaddleNLP's DPOCriterion, and how each takes a reference model.
REFERENCE_FREE_ONLY = ("or", "simpo")
REFERENCE_OR_FREE = ("sigmoid", "hinge", "ipo")
REFERENCE_ONLY = ("kto_pair", "sppo_hard", "nca_pair", "dpop")
DPO_LOSSES = (*REFERENCE_OR_FREE, *REFERENCE_ONLY, *REFERENCE_FREE_ONLY)
REWARD_LOSSES = ("pairwise", "listwise")


@dataclass
class PreferenceData:
    """Optional fields are Optional[...] because PaddleNLP's parser reads no other spelling.

    max_seq_len: tokens per pack. max_prompt_len: tokens that the prompt of a row longer than that keeps. chat_template:
    as for SFT, but used only where it is given.
    """

    train_dataset_path: Optional[str] = None  # noqa: UP045
    dev_dataset_path: Optional[str] = None  # noqa: UP045
    max_seq_len: int = 4096
    max_prompt_len: int = 2048
    greedy_zero_padding: bool = False
    lazy: bool = False
    pad_to_multiple_of: Optional[int] = None  # noqa: UP045
    pad_to_max_length: bool = False
    chat_template: Optional[str] = None  # noqa: UP045


@dataclass
class AlignmentTraining(SFTConfig):
    learning_rate: float = 5e-5
    unified_checkpoint: bool = True


@dataclass
class LoRAOptions:
    """LoRA keys that only PaddleNLP's alignment scripts have. lora_alpha = -1: PaddleNLP's choice from the rank."""

    lora_alpha: int = -1
    rslora_plus: bool = False


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


@dataclass
class KTOOptions(LoRAOptions):
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


@dataclass
class RewardOptions(LoRAOptions):
    """loss_type: "pairwise", -log sigmoid(difference) over every two answers of a question; "listwise", the
    Plackett-Luce likelihood of the whole order. The two agree for two answers."""

    loss_type: str = "pairwise"


OPTIONS = {"dpo": DPOOptions, "rm": RewardOptions, "kto": KTOOptions}


def load_alignment_config(task: str, path: str | os.PathLike, overrides: Sequence[str] = ()) -> Arguments:
    """Reads a PaddleNLP configuration for `task`: "dpo", "rm" or "kto".

    Arguments and errors are those of `load_sft_config`.
    """
    values = read_values(path, overrides)
    values.pop("task", None)
    for key in ("attention_mask_type", "attention_window_size"):
        if key in values:
            raise ConfigError(f"{key} is a key of SFT; in {task}, answers see their question and themselves, causally")
    backend = take_backend(values)
    groups = (ModelConfig, PreferenceData, AlignmentTraining, OPTIONS[task])
    model, data, training, options = parse_groups(values, groups)
    arguments = Arguments(model, data, training, notes=[], options=options, backend=backend)
    paths = [("train_dataset_path", data.train_dataset_path)] if training.do_train else []
    paths += [("dev_dataset_path", data.dev_dataset_path)] if training.do_eval else []
    check_common(arguments, paths)
    if not 0 < data.max_prompt_len < data.max_seq_len:
        raise ConfigError(
            f"max_prompt_len = {data.max_prompt_len} must be positive and below max_seq_len = {data.max_seq_len}, "
            "or no answer has room"
        )
    if data.pad_to_multiple_of is not None and data.pad_to_multiple_of < 1:
        raise ConfigError(f"pad_to_multiple_of = {data.pad_to_multiple_of} must be at least 1")
    if pads_to_max_seq_len(arguments) and data.max_seq_len % (data.pad_to_multiple_of or 1):
        raise ConfigError(
            f"max_seq_len = {data.max_seq_len} is not a multiple of pad_to_multiple_of = {data.pad_to_multiple_of}"
        )
    if model.flash_mask and not training.use_flash_attention:
        training.use_flash_attention = True
        arguments.notes.append("use_flash_attention is switched on: flash_mask is the mask of that path")
    settle_machine(arguments, values)
    {"dpo": _settle_dpo, "rm": _settle_reward, "kto": _settle_lora}[task](arguments, values)
    return arguments


def pads_to_max_seq_len(arguments: Arguments) -> bool:
    return arguments.data.pad_to_max_length or arguments.training.autotuner_benchmark


def _settle_dpo(arguments: Arguments, values: dict[str, Any]) -> None:
    options, notes = arguments.options, arguments.notes
    if options.loss_type == "orpo":
        options.loss_type, options.reference_free, options.sft_loss_ratio = "or", True, 1.0
        notes.append("loss_type orpo is 'or' with reference_free = true and sft_loss_ratio = 1")
    if options.loss_type not in DPO_LOSSES:
        raise ConfigError(f"loss_type = {options.loss_type!r} must be one of {', '.join(DPO_LOSSES)}, orpo")
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
            f"ref_model_update_steps = {options.ref_model_update_steps} is not in this release: PaddleNLP counts "
            "micro-batches there and a resumed run would have another reference"
        )
    _settle_lora(arguments, values, has_reference=not options.reference_free)


def _settle_lora(arguments: Arguments, values: dict[str, Any], has_reference: bool = True) -> None:
    model, options = arguments.model, arguments.options
    if model.lora and has_reference and model.pissa:
        raise ConfigError(
            "pissa = true changes the base weights, and the reference is the base without adapters; "
            "use plain lora, or reference_free where the task has it"
        )
    if not model.lora:
        given = [key for key in ("lora_alpha", "rslora_plus", "rslora", "lora_path") if values.get(key)]
        if given:
            raise ConfigError(f"{', '.join(given)} without lora = true")
        return
    if options.rslora_plus:
        model.rslora, model.lora_plus_scale = True, 4.0
    if options.lora_alpha != -1 and options.lora_alpha < 1:
        raise ConfigError(f"lora_alpha = {options.lora_alpha} must be at least 1, or -1 for the default")


def _settle_reward(arguments: Arguments, values: dict[str, Any]) -> None:
    _settle_lora(arguments, values, has_reference=False)
    if arguments.options.loss_type not in REWARD_LOSSES:
        raise ConfigError(f"loss_type = {arguments.options.loss_type!r} must be one of {', '.join(REWARD_LOSSES)}")
