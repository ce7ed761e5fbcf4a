"""The arguments of a run: PaddleNLP's own dataclasses, parsed by PaddleNLP and checked before any work starts."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, UnsupportedConfigError
from .data_sets import DataSet
from .known import check_known
from .tokenization import check_tokenization
from .unsupported import check_unsupported
from .value_types import check_types

if TYPE_CHECKING:
    from paddlenlp.trl import ModelConfig, SFTConfig

BACKENDS = ("paddle_flashmask", "paddle")
PADDLENLP_AVERAGE = "paddlenlp"
"""Value of `loss_average` that leaves the averages to PaddleNLP."""


@dataclasses.dataclass
class Arguments:
    """The argument groups of PaddleNLP, and a note to the user for each change made to them.

    data: PaddleNLP's DataConfig for SFT, `PreferenceData` for the other tasks. options: the keys of one task alone.
    backend: one of BACKENDS. data_sets: those that a key names; `data` has the path of the first.
    """

    model: ModelConfig
    data: Any
    training: SFTConfig
    options: Any
    notes: list[str] = dataclasses.field(default_factory=list)
    backend: str = "paddle_flashmask"
    data_sets: dict[str, tuple[DataSet, ...]] = dataclasses.field(default_factory=dict)

    @property
    def pads_to_max_length(self) -> bool:
        """Whether every batch is padded to the length of a full pack; otherwise to its longest pack."""
        return self.data.pad_to_max_length or self.training.autotuner_benchmark


def take_backend(values: dict[str, Any]) -> str:
    """Remove our key `flashmask_backend`, which selects the kernels for column masks, and return its value."""
    import paddle

    backend = values.pop("flashmask_backend", BACKENDS[0])
    if backend not in BACKENDS:
        raise ConfigError(f"flashmask_backend = {backend!r} must be one of {', '.join(BACKENDS)}")
    if backend == "paddle" and not paddle.is_compiled_with_cuda():
        raise UnsupportedConfigError(
            "flashmask_backend = 'paddle': this Paddle is built without CUDA and has no FlashMask; "
            "use 'paddle_flashmask'"
        )
    return backend


def parse_groups(values: dict[str, Any], groups: tuple[type, ...]) -> tuple[Any, ...]:
    """Parse the values into one instance of every dataclass with PaddleNLP's parser.

    In a launched run this joins the other processes. Raises ConfigError for an unknown key (naming the nearest known
    one), a wrong type, and whatever PaddleNLP's own checks reject, and UnsupportedConfigError.
    """
    from paddlenlp.trainer import PdArgumentParser

    known = frozenset(field.name for group in groups for field in dataclasses.fields(group) if field.init)
    check_known(values, known)
    check_types(values)
    check_unsupported(values)

    parser = PdArgumentParser(groups)

    def error(message: str) -> None:
        raise ConfigError(f"the configuration does not parse: {message}")

    parser.error = error  # argparse would print two pages of usage and exit
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / "config.json"
        merged.write_text(json.dumps(values), encoding="utf-8")
        try:
            return parser.parse_json_file(str(merged))
        except ConfigError:
            raise
        except (ValueError, AssertionError, NotImplementedError) as contradiction:  # PaddleNLP's own checks
            raise ConfigError(f"the configuration contradicts itself: {contradiction}") from contradiction


def check_common(arguments: Arguments, data_keys: Sequence[str]) -> None:
    """Reject configurations without a model, data or work.

    data_keys: keys that name the data of this run.
    """
    training = arguments.training
    named = [("model_name_or_path", arguments.model), *((key, arguments.data) for key in data_keys)]
    for key, group in named:
        if not getattr(group, key):
            raise ConfigError(f"{key} is missing from the configuration")
    if not (training.do_train or training.do_eval):
        raise ConfigError("neither do_train nor do_eval is true: there is nothing to do")
    if training.fp16_opt_level == "O2" and not (training.fp16 or training.bf16):
        raise ConfigError("fp16_opt_level = 'O2' needs bf16 or fp16 to be true; for float32 use 'O1'")
    check_tokenization(arguments.options)


def check_lengths(arguments: Arguments, max_length_key: str, max_prompt_key: str) -> None:
    """Check that a prompt leaves room for an answer, and that a padded batch can have the length asked for.

    max_length_key, max_prompt_key: keys of the tokens in a pack, and of those that a prompt may take.
    """
    data = arguments.data
    max_length, max_prompt = getattr(data, max_length_key), getattr(data, max_prompt_key)
    if not 0 < max_prompt < max_length:
        raise ConfigError(
            f"{max_prompt_key} = {max_prompt} must be positive and below {max_length_key} = {max_length}, "
            "or no answer has room"
        )
    if data.pad_to_multiple_of is not None and data.pad_to_multiple_of < 1:
        raise ConfigError(f"pad_to_multiple_of = {data.pad_to_multiple_of} must be at least 1")
    if arguments.pads_to_max_length and max_length % (data.pad_to_multiple_of or 1):
        raise ConfigError(
            f"{max_length_key} = {max_length} is not a multiple of pad_to_multiple_of = {data.pad_to_multiple_of}"
        )


def settle_flash_attention(arguments: Arguments) -> None:
    """Switch `use_flash_attention` on where `flash_mask` needs it, with a note."""
    if arguments.model.flash_mask and not arguments.training.use_flash_attention:
        arguments.training.use_flash_attention = True
        arguments.notes.append("use_flash_attention is switched on: flash_mask is the mask of that path")
