"""Keys that DPO, reward-model and KTO configurations share: those of PaddleNLP's llm/alignment scripts.

PaddleNLP ships their argument classes only as repository scripts; the dataclasses here have the same keys with the
same defaults and meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from paddlenlp.trl import SFTConfig

from ..errors import ConfigError
from .arguments import PADDLENLP_AVERAGE, Arguments
from .run_options import RunOptions


@dataclass
class PreferenceData:
    """Keys of the data. Optional fields are Optional[...] because PaddleNLP's parser reads no other spelling.

    max_seq_len: tokens per pack. max_prompt_len: tokens that the prompt keeps where a row is longer than a pack.
    chat_template: as for SFT, but used only where it is set.
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
class PreferenceTraining(SFTConfig):
    """PaddleNLP's training keys with the defaults of its alignment scripts."""

    learning_rate: float = 5e-5
    unified_checkpoint: bool = True


@dataclass
class PreferenceOptions(RunOptions):
    """Keys that only tasks on preference data have.

    lora_alpha, rslora_plus: of PaddleNLP's alignment scripts; lora_alpha = -1 leaves the choice to the rank.
    loss_average: ours. "pairs": the loss is a mean over all pairs (DPO), questions (RM) or answers (KTO) of a step;
    "paddlenlp": the mean of the means of the micro-batches.
    share_prefixes: ours. Store the tokens that rows and answers have in common at their start once, as prefix trees.
    """

    lora_alpha: int = -1
    rslora_plus: bool = False
    loss_average: str = "pairs"
    share_prefixes: bool = False


def settle_options(arguments: Arguments, values: dict[str, Any], has_reference: bool) -> None:
    """Check the LoRA keys and `share_prefixes`, and apply `rslora_plus`.

    values: the keys that the configuration sets. has_reference: whether the loss needs a reference, which is the base
    without its adapters.
    """
    model, options = arguments.model, arguments.options
    if options.share_prefixes and options.loss_average == PADDLENLP_AVERAGE:
        raise ConfigError("share_prefixes = true needs loss_average = 'pairs'")
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
