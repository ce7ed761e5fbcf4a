"""What the training of every task shares: device, checkpoint, model, tokenizer, the record of the run."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle

import paddle_flashmask
from paddle_flashmask.packing import PackingReport

from .config import Arguments, ConfigError, UnsupportedConfigError
from .data import PackDataset, PackStreamDataset, TokenizedRows
from .preference_data import TokenizedAnswers
from .processes import share_parameters

SUMMARY_NAME = "training_summary.json"
Rows = TokenizedRows | TokenizedAnswers


@dataclass(frozen=True)
class TrainingResult:
    """What one run did. Steps taken before a resumed run do not count.

    losses: (step, training loss) of every logged step. evaluations: {"step", "eval_loss", ...} of every evaluation.
    cut_rows: training rows that lost tokens to src_length or max_length. tokens: of documents, padding not counted.
    step_seconds: wall time of every training step, without loading, evaluation and saving.
    metrics: {"step", ...} of every logged step, for tasks that have more than a loss (rewards, accuracy, margin).
    """

    losses: list[tuple[int, float]]
    evaluations: list[dict[str, float]]
    packing: PackingReport | None
    cut_rows: int
    tokens: int
    step_seconds: list[float]
    output_dir: str
    metrics: list[dict[str, float]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        values = {**vars(self), "packing": self.packing.to_dict() if self.packing is not None else None}
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def training_session(arguments: Arguments, write: Callable[[str], None]) -> Iterator[None]:
    """Shows the notes, enables the operator where the configuration wants it, and sets device and environment."""
    for note in arguments.notes + _thread_notes(arguments.training):
        write(f"note: {note}")
    wants_flash = arguments.model.flash_mask or arguments.training.use_flash_attention
    wants_operator = wants_flash and arguments.backend == "paddle_flashmask"
    operator = paddle_flashmask.enabled() if wants_operator else contextlib.nullcontext()
    # PaddleNLP's switch that replaces every dense mask by plain causal: packed documents would see each other.
    os.environ["USE_CASUAL_MASK"] = "False"
    # Fresh parameter names: an optimizer state on disk names parameters as the first model of a process does.
    with operator, paddle.utils.unique_name.guard():
        paddle.set_device(arguments.training.device)
        yield


def _thread_notes(training: Any) -> list[str]:
    """Importing Paddle sets OMP_NUM_THREADS to 1 where it is not set, for its operators and for ours."""
    cores = len(os.sched_getaffinity(0))
    if training.device != "cpu" or training.world_size > 1 or cores == 1 or os.environ.get("OMP_NUM_THREADS") != "1":
        return []
    return [f"1 thread of {cores} cores; to use more set OMP_NUM_THREADS before the start (Paddle's default is 1)"]


def find_checkpoint(training, write: Callable[[str], None]) -> str | None:
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


def load_model_config(arguments: Arguments, length: int) -> Any:
    """The model's configuration with what the training configuration says about it. length: tokens per pack."""
    from paddlenlp.transformers import AutoConfig
    from paddlenlp.transformers.configuration_utils import LlmMetaConfig

    model_args, training = arguments.model, arguments.training
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
    config.seq_length = length
    for key in ("fuse_attention_qkv", "fuse_attention_ffn"):
        if getattr(model_args, key) is not None:
            setattr(config, key, getattr(model_args, key))
    return config


def load_model(arguments: Arguments, config: Any, model_class: Any, write: Callable[[str], None]) -> Any:
    """model_class: AutoModelForCausalLM or a class of PaddleNLP models."""
    model_args, training, name = arguments.model, arguments.training, arguments.model.model_name_or_path
    if model_args.continue_training and not training.autotuner_benchmark:
        if os.path.isdir(name) and not _has_weights(Path(name)):
            raise ConfigError(
                f"{name} holds a model configuration but no weights; "
                "to start from random weights set continue_training to false"
            )
        with _named("model_name_or_path", name):
            model = model_class.from_pretrained(name, config=config)
    else:
        write("note: random weights (continue_training is false or autotuner_benchmark is true)")
        model = model_class.from_config(config, dtype=config.dtype)
    share_parameters(model)
    if model_args.flash_mask and "attn_mask_startend_row_indices" not in inspect.signature(model.forward).parameters:
        raise UnsupportedConfigError(
            f"flash_mask: {type(model).__name__} of PaddleNLP takes no column indices; docs/models.md says which do"
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


def load_tokenizer(arguments: Arguments, chat_template: str | None = None) -> Any:
    from paddlenlp.transformers import AutoTokenizer, Llama3Tokenizer, LlamaTokenizer
    from paddlenlp.trl.llm_utils import init_chat_template

    name = arguments.model.tokenizer_name_or_path or arguments.model.model_name_or_path
    with _named("tokenizer of model_name_or_path or tokenizer_name_or_path", name):
        tokenizer = AutoTokenizer.from_pretrained(name)
    init_chat_template(tokenizer, name, chat_template)
    if chat_template is not None and chat_template.lower() != "none" and tokenizer.chat_template is None:
        raise ConfigError(f"chat_template = {chat_template!r}: the tokenizer of {name} has no chat template")
    if isinstance(tokenizer, (LlamaTokenizer, Llama3Tokenizer)) or tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def announce(
    name: str, data: PackDataset | PackStreamDataset | None, rows: Rows | None, write: Callable[[str], None]
) -> None:
    """Says how the rows were packed; nothing to pack is a ConfigError. A stream is packed later."""
    if not isinstance(data, PackDataset):
        return
    write(_packing_line(name, data, rows))
    if not len(data):
        raise ConfigError(f"the {name} data holds no rows: {', '.join(map(str, rows.rows.files))}")


def run_to_end(
    trainer: Any,
    progress: Any,
    checkpoint: str | None,
    data: PackDataset | PackStreamDataset | None,
    rows: Rows | None,
    write: Callable[[str], None],
) -> TrainingResult:
    """Trains, evaluates and saves as the trainer's arguments say. data, rows: those to train on.

    Returns the record of the run, which is also written to output_dir.
    """
    training = trainer.args
    saves = not (training.benchmark or training.autotuner_benchmark)
    if training.do_train:
        outcome = trainer.train(resume_from_checkpoint=checkpoint)
        if saves:
            trainer.save_model()
            trainer.log_metrics("train", outcome.metrics)
            trainer.save_metrics("train", outcome.metrics)
            trainer.save_state()
        if isinstance(data, PackStreamDataset):
            write(_packing_line("training (last pass)", data, rows))
    if training.do_eval:
        metrics = trainer.evaluate()
        if not training.benchmark:
            trainer.log_metrics("eval", metrics)
            trainer.save_metrics("eval", metrics)
    result = TrainingResult(
        losses=progress.losses,
        evaluations=progress.evaluations,
        packing=data.packs.report if data is not None else None,
        cut_rows=rows.cut_rows + data.packs.report.truncated_rows if data is not None else 0,
        tokens=progress.tokens,
        step_seconds=progress.step_seconds,
        output_dir=training.output_dir,
        metrics=progress.metrics,
    )
    if training.should_save:
        result.write(Path(training.output_dir) / SUMMARY_NAME)
    return result


def _packing_line(name: str, data: PackDataset | PackStreamDataset, rows: Rows) -> str:
    return f"{name} data: {data.packs.report}" + (f"; {rows.cut_rows} {rows.cut_means}" if rows.cut_rows else "")
