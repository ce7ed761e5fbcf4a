"""Packed DPO, reward-model and KTO training from a PaddleNLP configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from paddle_flashmask.packing import KTOCollator, PreferenceCollator, RewardCollator

from .alignment_config import load_alignment_config, pads_to_max_seq_len
from .config import Arguments, UnsupportedConfigError
from .data import PackDataset, PackStreamDataset
from .lora import with_lora
from .preference_data import DPOBatches, KTOBatches, RewardBatches, TokenizedAnswers, pack_answers
from .preference_rows import PreferenceLines
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

_BATCHES = {
    "dpo": (DPOBatches, PreferenceCollator),
    "rm": (RewardBatches, RewardCollator),
    "kto": (KTOBatches, KTOCollator),
}


def run_alignment(
    task: str, config: str | os.PathLike, overrides: Sequence[str] = (), write: Callable[[str], None] = print
) -> TrainingResult:
    """Trains as the PaddleNLP configuration says. task: "dpo", "rm" (reward model) or "kto".

    Raises as `run_sft` does.
    """
    arguments = load_alignment_config(task, config, overrides)
    with training_session(arguments, write):
        return _run(task, arguments, write)


def _run(task: str, arguments: Arguments, write: Callable[[str], None]) -> TrainingResult:
    from paddlenlp.trainer import set_seed

    from .logs import CSVLog
    from .progress import ProgressLines

    data_args, training = arguments.data, arguments.training
    checkpoint = find_checkpoint(training, write)
    set_seed(training.seed)
    model = _load(task, arguments, write)
    tokenizer = load_tokenizer(arguments, data_args.chat_template)

    train_rows = _rows(task, arguments, tokenizer, data_args.train_dataset_path) if training.do_train else None
    eval_rows = _rows(task, arguments, tokenizer, data_args.dev_dataset_path) if training.do_eval else None
    train_data = _packed(arguments, train_rows, data_args.lazy)
    eval_data = _packed(arguments, eval_rows, lazy=False)
    announce("training", train_data, train_rows, write)
    announce("evaluation", eval_data, eval_rows, write)

    batches, collator = _BATCHES[task]
    progress = ProgressLines(write)
    trainer = _trainer(
        task,
        arguments,
        model,
        args=training,
        train_dataset=train_data,
        eval_dataset=eval_data,
        tokenizer=tokenizer,
        data_collator=batches(
            collator(
                pad_token_id=tokenizer.pad_token_id,
                length=data_args.max_seq_len if pads_to_max_seq_len(arguments) else None,
                multiple_of=data_args.pad_to_multiple_of or 1,
                mask="columns" if arguments.model.flash_mask else "dense",
            )
        ),
        callbacks=[progress, CSVLog()],
    )
    return run_to_end(trainer, progress, checkpoint, train_data, train_rows, write)


def _load(task: str, arguments: Arguments, write: Callable[[str], None]) -> Any:
    from paddlenlp.transformers import AutoModelForCausalLM

    config = load_model_config(arguments, arguments.data.max_seq_len)
    for key in ("use_fused_head_and_loss_fn", "use_sparse_head_and_loss_fn"):
        if getattr(config, key, False):  # no logits: PaddleNLP's criteria expect response indices of another layout
            raise UnsupportedConfigError(f"{key} in the model's config.json is not in this release for {task}")
    if task != "rm":
        return load_model(arguments, config, AutoModelForCausalLM, write)
    from .reward_model import reward_model_class

    return load_model(arguments, config, reward_model_class(config), write)


def _trainer(task: str, arguments: Arguments, model: Any, **kwargs: Any) -> Any:
    if task == "rm":
        from .reward import PackedRewardTrainer
        from .reward_model import SCORE_HEAD

        if arguments.model.lora:
            model = with_lora(model, arguments, trained_whole=[SCORE_HEAD])
        return PackedRewardTrainer(model=model, loss_type=arguments.options.loss_type, **kwargs)
    from .dpo import PackedDPOTrainer, PackedKTOTrainer

    options = arguments.options
    options.lora = arguments.model.lora
    reference = None
    if not (options.lora or getattr(options, "reference_free", False)):
        reference = _frozen_copy(model)
    if options.lora:
        model = with_lora(model, arguments)
    if task == "dpo":
        return PackedDPOTrainer(model=model, ref_model=reference, dpo_config=options, **kwargs)
    return PackedKTOTrainer(model=model, ref_model=reference, kto_config=options, **kwargs)


def _frozen_copy(model: Any) -> Any:
    """The reference: the model as it is before the first step, also where PaddleNLP would draw other random weights."""
    import paddle

    # Names of its own, so that the trained model keeps those that an optimizer state on disk refers to.
    with paddle.utils.unique_name.guard("reference_"):
        copy = type(model).from_config(model.config, dtype=model.config.dtype)
    copy.set_state_dict(model.state_dict())
    copy.eval()
    for parameter in copy.parameters():
        parameter.stop_gradient = True
    return copy


def _rows(task: str, arguments: Arguments, tokenizer: Any, path: str) -> TokenizedAnswers:
    data = arguments.data
    return TokenizedAnswers(PreferenceLines(path, task), tokenizer, data.max_seq_len, chat=_uses_template(data))


def _uses_template(data: Any) -> bool:
    return data.chat_template is not None and data.chat_template.lower() != "none"


def _packed(arguments: Arguments, rows: TokenizedAnswers | None, lazy: bool) -> PackDataset | PackStreamDataset | None:
    if rows is None:
        return None
    order = "first_fit_decreasing" if arguments.data.greedy_zero_padding else "sequential"
    return pack_answers(rows, arguments.data.max_prompt_len, order, lazy)
