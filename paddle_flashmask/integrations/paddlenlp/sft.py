"""Packed supervised fine-tuning from a PaddleNLP configuration, with PaddleNLP's own model, trainer and LoRA."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from paddle_flashmask.packing import SFTCollator

from .config import Arguments, UnsupportedConfigError, load_sft_config, pads_to_max_length
from .data import JSONLines, PaddleNLPCollator, TokenizedRows, pack_rows
from .lora import with_lora
from .run import (
    TrainingResult,
    announce,
    find_checkpoint,
    load_model,
    load_model_config,
    load_tokenizer,
    run_to_end,
    training_session,
)


def run_sft(
    config: str | os.PathLike, overrides: Sequence[str] = (), write: Callable[[str], None] = print
) -> TrainingResult:
    """Trains as the PaddleNLP SFT configuration file says.

    The operator is enabled while it runs, unless the configuration asks for neither flash_mask nor
    use_flash_attention: then PaddleNLP's own attention works with the dense mask of the packs.

    write: gets the lines meant for a person.

    Raises what `load_sft_config` raises, DataError for a data row that cannot be used, and ConfigError or
    UnsupportedConfigError for a model the configuration does not fit.
    """
    arguments = load_sft_config(config, overrides)
    with training_session(arguments, write):
        return _run(arguments, write)


def _run(arguments: Arguments, write: Callable[[str], None]) -> TrainingResult:
    from paddlenlp.trainer import set_seed
    from paddlenlp.transformers import AutoModelForCausalLM

    from .logs import CSVLog
    from .progress import ProgressLines
    from .trainer import PackedSFTTrainer

    model_args, data_args, training = arguments.model, arguments.data, arguments.training
    checkpoint = find_checkpoint(training, write)
    set_seed(training.seed)
    model_config = load_model_config(arguments, data_args.max_length)
    attention = arguments.options.attention()
    model_config.flash_mask_causal = attention.causal
    if not (attention.causal or model_args.flash_mask) and "MistralForCausalLM" in model_config.architectures:
        raise UnsupportedConfigError(
            f"attention_mask_type = {attention.kind!r} needs flash_mask: PaddleNLP's Mistral makes dense masks causal"
        )
    model = load_model(arguments, model_config, AutoModelForCausalLM, write)
    tokenizer = load_tokenizer(arguments, data_args.chat_template)

    train_rows = _tokenized(arguments, tokenizer, "train") if training.do_train else None
    eval_rows = _tokenized(arguments, tokenizer, "dev") if training.do_eval else None
    order = _order(arguments)
    train_data = pack_rows(train_rows, order, data_args.lazy, attention) if train_rows is not None else None
    eval_data = pack_rows(eval_rows, order, False, attention) if eval_rows is not None else None
    announce("training", train_data, train_rows, write)
    announce("evaluation", eval_data, eval_rows, write)
    if model_args.lora:
        model = with_lora(model, arguments)

    progress = ProgressLines(write)
    trainer = PackedSFTTrainer(
        model=model,
        args=training,
        train_dataset=train_data,
        eval_dataset=eval_data,
        tokenizer=tokenizer,
        data_collator=PaddleNLPCollator(
            SFTCollator(
                pad_token_id=tokenizer.pad_token_id,
                length=data_args.max_length if pads_to_max_length(arguments) else None,
                multiple_of=data_args.pad_to_multiple_of or 1,
                mask="columns" if model_args.flash_mask else "dense",
            )
        ),
        compute_metrics=_accuracy if training.do_eval else None,
        callbacks=[progress, CSVLog()],
    )
    return run_to_end(trainer, progress, checkpoint, train_data, train_rows, write)


def _tokenized(arguments: Arguments, tokenizer: Any, split: str) -> TokenizedRows:
    data_args = arguments.data
    rows = JSONLines(data_args.dataset_name_or_path, split)
    return TokenizedRows(rows, tokenizer, data_args.src_length, data_args.max_length)


def _order(arguments: Arguments) -> str:
    if not arguments.data.zero_padding:
        return "single"
    return "first_fit_decreasing" if arguments.data.greedy_zero_padding else "sequential"


def _accuracy(predictions: Any) -> dict[str, float]:
    from paddlenlp.trl.llm_utils import compute_metrics

    return compute_metrics(predictions)
