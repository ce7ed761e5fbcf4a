"""Model and tokenizer of a run."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from .config.arguments import Arguments
from .config.parallel import context_parallel_degree
from .context_parallel.models import check_model
from .data.paddlenlp_chat import FILE as TEMPLATE_FILE
from .data.paddlenlp_chat import check_template
from .errors import ConfigError, UnsupportedConfigError
from .models.positions import extend_rotary_tables
from .processes import share_parameters

TOKENIZER_FILE = "tokenizer_config.json"


def load_model_config(arguments: Arguments, length: int) -> Any:
    """The model's configuration, completed from the training configuration. length: tokens in a full pack."""
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
    if context_parallel_degree(training) > 1:
        check_model(config)
        config.context_parallel_degree = config.sep_parallel_degree = 1  # PaddleNLP's models divide nothing themselves
    config.use_fast_layer_norm = model_args.use_fast_layer_norm
    config.seq_length = length
    _check_parts(config, training.tensor_parallel_degree)
    config.tensor_parallel_output = False  # the losses here take the logits of the whole vocabulary
    for key in ("fuse_attention_qkv", "fuse_attention_ffn"):
        if getattr(model_args, key) is not None:
            setattr(config, key, getattr(model_args, key))
    return config


def _check_parts(config: Any, degree: int) -> None:
    """Raise ConfigError for a model that cannot be divided by tensor_parallel_degree."""
    for name in ("num_attention_heads", "num_key_value_heads", "vocab_size"):
        size = getattr(config, name, None)
        if size is not None and size % max(degree, 1):
            raise ConfigError(
                f"tensor_parallel_degree = {degree} does not divide {name} = {size} of the model's config.json"
            )


def load_model(arguments: Arguments, config: Any, model_class: Any, write: Callable[[str], None]) -> Any:
    """The model with the weights of its folder, or random ones. model_class: has `from_pretrained` and `from_config`.

    Raises ConfigError where there are no weights, UnsupportedConfigError for a model that takes no column indices.
    """
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
    extend_rotary_tables(model, config.seq_length)
    share_parameters(model)
    if model_args.flash_mask and "attn_mask_startend_row_indices" not in inspect.signature(model.forward).parameters:
        raise UnsupportedConfigError(
            f"flash_mask: {type(model).__name__} of PaddleNLP takes no column indices; see docs/models.md"
        )
    return model


@contextlib.contextmanager
def _named(key: str, name: str) -> Iterator[None]:
    """Name the key in the error for a file that PaddleNLP cannot find."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{key} = {name!r} is neither a usable folder nor a name PaddleNLP can fetch: {error}"
        ) from error


def _has_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in ("*.pdparams", "*.safetensors", "*.bin"))


@dataclass(frozen=True)
class TokenizerSource:
    """The values of the keys that name a tokenizer. name: a folder, or a name that PaddleNLP can fetch."""

    name: str
    chat_template: str | None

    @classmethod
    def of(cls, arguments: Arguments) -> TokenizerSource:
        model = arguments.model
        return cls(model.tokenizer_name_or_path or model.model_name_or_path, arguments.data.chat_template)

    def load(self) -> Any:
        """The tokenizer with its chat template and padding token.

        Raises ConfigError for a chat template that is not there, that PaddleNLP cannot compile, or that cannot be used.
        """
        from paddlenlp.transformers import AutoTokenizer, Llama3Tokenizer, LlamaTokenizer
        from paddlenlp.trl.llm_utils import init_chat_template

        name, chat_template = self.name, self.chat_template
        for file in self.template_files():
            check_template(file)
        with _named("tokenizer of model_name_or_path or tokenizer_name_or_path", name), _template_named(name):
            tokenizer = AutoTokenizer.from_pretrained(name)
        init_chat_template(tokenizer, name, chat_template)
        if chat_template is not None and chat_template.lower() != "none" and tokenizer.chat_template is None:
            raise ConfigError(f"chat_template = {chat_template!r}: the tokenizer of {name} has no chat template")
        if isinstance(tokenizer, (LlamaTokenizer, Llama3Tokenizer)) or tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = tokenizer.eos_token_id
        return tokenizer

    def template_files(self) -> list[Path]:
        """The files named `chat_template.json` that PaddleNLP reads for these values of the keys.

        Raises ConfigError for one that is not there; PaddleNLP would use the tokenizer's own template.
        """
        own = [file for file in [Path(self.name) / TEMPLATE_FILE] if file.is_file()]
        if self.chat_template in (None, self.name) or self.chat_template.lower() == "none":
            return own
        other = Path(self.chat_template)
        other = other / TEMPLATE_FILE if other.is_dir() else other
        if not other.is_file():
            raise ConfigError(f"chat_template = {self.chat_template!r}: there is no file {other}")
        return [*own, other]


def load_tokenizer(arguments: Arguments) -> Any:
    """The tokenizer of a configuration. Raises ConfigError as `TokenizerSource.load` does."""
    return TokenizerSource.of(arguments).load()


@contextlib.contextmanager
def _template_named(name: str) -> Iterator[None]:
    """Name the file in the error for a Jinja template of `name` that PaddleNLP cannot compile."""
    file = Path(name) / TOKENIZER_FILE
    try:
        yield
    except ValueError as error:
        if not str(error.args[:1]).startswith("('Receive error chat_template data"):
            raise
        raise ConfigError(f"{file}: chat_template must be one template; got {type(error.args[1]).__name__}") from error
    except jinja2.TemplateSyntaxError as error:
        # PaddleNLP raises one of its own, without the line, while it handles that of Jinja.
        cause = error.__context__ if isinstance(error.__context__, jinja2.TemplateSyntaxError) else error
        reason = cause.message
        if "generation'" in reason:
            reason = (
                "PaddleNLP does not support {% generation %}; remove this tag and {% endgeneration %}. The answers to "
                "learn are found without them"
            )
        raise ConfigError(f"{file}: chat_template, line {cause.lineno}: {reason}") from error
