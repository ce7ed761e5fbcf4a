"""Packed supervised fine-tuning from a PaddleNLP configuration, with PaddleNLP's own model, trainer and LoRA."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

import paddle_flashmask
from paddle_flashmask.packing import PackingReport, SFTCollator

from .config import ConfigError, SFTArguments, UnsupportedConfigError, load_sft_config, pads_to_max_length
from .data import JSONLines, PackDataset, PackStreamDataset, PaddleNLPCollator, TokenizedRows, pack_rows

SUMMARY_NAME = "training_summary.json"


@dataclass(frozen=True)
class SFTResult:
    """What one run did. Steps taken before a resumed run do not count.

    losses: (step, training loss) of every logged step. evaluations: {"step", "eval_loss", ...} of every evaluation.
    cut_rows: training rows that lost tokens to src_length or max_length. tokens: of documents, padding not counted.
    step_seconds: wall time of every training step, without loading, evaluation and saving.
    """

    losses: list[tuple[int, float]]
    evaluations: list[dict[str, float]]
    packing: PackingReport | None
    cut_rows: int
    tokens: int
    step_seconds: list[float]
    output_dir: str

    def write(self, path: Path) -> None:
        values = {**vars(self), "packing": self.packing.to_dict() if self.packing is not None else None}
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def run_sft(
    config: str | os.PathLike, overrides: Sequence[str] = (), write: Callable[[str], None] = print
) -> SFTResult:
    """Trains as the PaddleNLP SFT configuration file says.

    The operator is enabled while it runs, unless the configuration asks for neither flash_mask nor
    use_flash_attention: then PaddleNLP's own attention works with the dense mask of the packs.

    write: gets the lines meant for a person.

    Raises what `load_sft_config` raises, DataError for a data row that cannot be used, and ConfigError or
    UnsupportedConfigError for a model the configuration does not fit.
    """
    arguments = load_sft_config(config, overrides)
    for note in arguments.notes:
        write(f"note: {note}")
    wants_operator = arguments.model.flash_mask or arguments.training.use_flash_attention
    operator = paddle_flashmask.enabled() if wants_operator else contextlib.nullcontext()
    # Fresh parameter names: an optimizer state on disk names parameters as the first model of a process does.
    with operator, paddle.utils.unique_name.guard():
        return _run(arguments, write)


def _run(arguments: SFTArguments, write: Callable[[str], None]) -> SFTResult:
    from paddlenlp.trainer import set_seed

    from .progress import ProgressLines
    from .trainer import PackedSFTTrainer

    model_args, data_args, training = arguments.model, arguments.data, arguments.training
    # PaddleNLP's switch that replaces every dense mask by plain causal: packed documents would see each other.
    os.environ["USE_CASUAL_MASK"] = "False"
    paddle.set_device(training.device)
    checkpoint = _checkpoint(training, write)
    set_seed(training.seed)
    model = _load_model(arguments, write)
    tokenizer = _load_tokenizer(arguments)

    train_rows = _tokenized(arguments, tokenizer, "train") if training.do_train else None
    eval_rows = _tokenized(arguments, tokenizer, "dev") if training.do_eval else None
    order = _order(arguments)
    train_data = pack_rows(train_rows, order, data_args.lazy) if train_rows is not None else None
    eval_data = pack_rows(eval_rows, order, lazy=False) if eval_rows is not None else None
    for name, data, rows in (("training", train_data, train_rows), ("evaluation", eval_data, eval_rows)):
        if isinstance(data, PackDataset):
            write(_packing_line(name, data, rows))
            if not len(data):
                raise ConfigError(f"the {name} data holds no rows: {', '.join(map(str, rows.rows.files))}")
    if model_args.lora:
        model = _with_lora(model, arguments)

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
        callbacks=[progress],
    )
    if training.do_train:
        _train(trainer, training, checkpoint)
        if isinstance(train_data, PackStreamDataset):
            write(_packing_line("training (last pass)", train_data, train_rows))
    if training.do_eval:
        metrics = trainer.evaluate()
        if not training.benchmark:
            trainer.log_metrics("eval", metrics)
            trainer.save_metrics("eval", metrics)

    result = SFTResult(
        losses=progress.losses,
        evaluations=progress.evaluations,
        packing=train_data.packs.report if train_data is not None else None,
        cut_rows=train_rows.cut_rows if train_rows is not None else 0,
        tokens=progress.tokens,
        step_seconds=progress.step_seconds,
        output_dir=training.output_dir,
    )
    if training.should_save:
        result.write(Path(training.output_dir) / SUMMARY_NAME)
    return result


def _checkpoint(training, write: Callable[[str], None]) -> str | None:
    """The checkpoint to resume from: the one named, or like PaddleNLP the last one in output_dir."""
    from paddlenlp.trainer import get_last_checkpoint

    named = training.resume_from_checkpoint
    if named is not None and str(named).lower() not in ("true", "false"):
        if not Path(named).is_dir():
            raise ConfigError(f"resume_from_checkpoint = {named!r} is not a folder")
        return named
    found = None
    if os.path.isdir(training.output_dir) and training.do_train and not training.overwrite_output_dir:
        found = get_last_checkpoint(training.output_dir)
    if named is not None and str(named).lower() == "true" and found is None:
        raise ConfigError(f"resume_from_checkpoint = true, but there is no checkpoint in {training.output_dir}")
    if found is not None and str(named).lower() != "false":
        write(f"note: resuming from {found}; set overwrite_output_dir to start afresh")
        return found
    return None


def _load_model(arguments: SFTArguments, write: Callable[[str], None]) -> Any:
    from paddlenlp.transformers import AutoConfig, AutoModelForCausalLM
    from paddlenlp.transformers.configuration_utils import LlmMetaConfig

    model_args, data_args, training = arguments.model, arguments.data, arguments.training
    dtype = "float32"
    if training.fp16_opt_level == "O2":
        dtype = "bfloat16" if training.bf16 else "float16"
    name = model_args.model_name_or_path
    with _named("model_name_or_path", name):
        config = AutoConfig.from_pretrained(name, dtype=dtype)
    if not config.architectures:
        raise ConfigError(f"the config.json of {name} has no 'architectures', for example ['LlamaForCausalLM']")
    LlmMetaConfig.set_llm_config(config, training)
    config.use_fast_layer_norm = model_args.use_fast_layer_norm
    config.seq_length = data_args.max_length
    for key in ("fuse_attention_qkv", "fuse_attention_ffn"):
        if getattr(model_args, key) is not None:
            setattr(config, key, getattr(model_args, key))

    if model_args.continue_training and not training.autotuner_benchmark:
        if os.path.isdir(name) and not _has_weights(Path(name)):
            raise ConfigError(
                f"{name} holds a model configuration but no weights; "
                "to start from random weights set continue_training to false"
            )
        with _named("model_name_or_path", name):
            model = AutoModelForCausalLM.from_pretrained(name, config=config)
    else:
        write("note: random weights (continue_training is false or autotuner_benchmark is true)")
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if model_args.flash_mask and "attn_mask_startend_row_indices" not in inspect.signature(model.forward).parameters:
        raise UnsupportedConfigError(
            f"flash_mask: {type(model).__name__} of PaddleNLP takes no column indices; Llama and Qwen2 do"
        )
    return model


@contextlib.contextmanager
def _named(key: str, name: str) -> Iterator[None]:
    """Says which key a file that PaddleNLP cannot find belongs to."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{key} = {name!r} is neither a usable folder nor a name PaddleNLP can fetch: {error}"
        ) from error


def _has_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in ("*.pdparams", "*.safetensors", "*.bin"))


def _load_tokenizer(arguments: SFTArguments) -> Any:
    from paddlenlp.transformers import AutoTokenizer, Llama3Tokenizer, LlamaTokenizer
    from paddlenlp.trl.llm_utils import init_chat_template

    name = arguments.model.tokenizer_name_or_path or arguments.model.model_name_or_path
    with _named("tokenizer of model_name_or_path or tokenizer_name_or_path", name):
        tokenizer = AutoTokenizer.from_pretrained(name)
    init_chat_template(tokenizer, name, arguments.data.chat_template)
    if isinstance(tokenizer, (LlamaTokenizer, Llama3Tokenizer)) or tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def _tokenized(arguments: SFTArguments, tokenizer: Any, split: str) -> TokenizedRows:
    data_args = arguments.data
    rows = JSONLines(data_args.dataset_name_or_path, split)
    return TokenizedRows(rows, tokenizer, data_args.src_length, data_args.max_length)


def _order(arguments: SFTArguments) -> str:
    if not arguments.data.zero_padding:
        return "single"
    return "first_fit_decreasing" if arguments.data.greedy_zero_padding else "sequential"


def _packing_line(name: str, data: PackDataset | PackStreamDataset, rows: TokenizedRows) -> str:
    cut = f"; {rows.cut_rows} rows cut to src_length or max_length" if rows.cut_rows else ""
    return f"{name} data: {data.packs.report}{cut}"


def _with_lora(model: Any, arguments: SFTArguments) -> Any:
    from paddlenlp.peft import LoRAConfig, LoRAModel
    from paddlenlp.trl.llm_utils import get_lora_target_modules

    options = arguments.model
    if options.lora_path is not None:
        return LoRAModel.from_pretrained(model=model, lora_path=options.lora_path)
    config = LoRAConfig(
        target_modules=get_lora_target_modules(model),
        r=options.lora_rank,
        lora_alpha=4 if options.rslora else 2 * options.lora_rank,
        rslora=options.rslora,
        lora_plus_scale=options.lora_plus_scale,
        pissa=options.pissa,
        merge_weights=False,
        dtype=model.config.dtype,
        base_model_name_or_path=options.model_name_or_path,
        use_quick_lora=options.use_quick_lora,
    )
    model = LoRAModel(model, config)
    model.mark_only_lora_as_trainable()
    return model


def _train(trainer: Any, training: Any, checkpoint: str | None) -> None:
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    if training.benchmark or training.autotuner_benchmark:
        return
    trainer.save_model()
    trainer.log_metrics("train", outcome.metrics)
    trainer.save_metrics("train", outcome.metrics)
    trainer.save_state()


def _accuracy(predictions: Any) -> dict[str, float]:
    from paddlenlp.trl.llm_utils import compute_metrics

    return compute_metrics(predictions)
