"""PaddleNLP's configuration files: its own keys, parsed by its own dataclasses, and checked before any work."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, UnsupportedConfigError
from .mask_type import MaskOptions

if TYPE_CHECKING:
    from paddlenlp.trl import ModelConfig, SFTConfig

# PaddleNLP keys that this trainer does not act on: any value but the default is refused.
UNSUPPORTED_KEYS = {
    "prefix_tuning",
    "prefix_path",
    "vera",
    "lokr",
    "lokr_path",
    "reft",
    "neftune",
    "weight_quantize_algo",
    "lora_use_mixer",
    "use_mora",
    "use_long_sequence_strategies",
    "from_aistudio",
    "save_to_aistudio",
    "eval_with_do_generation",
    "save_generation_output",
    "task_name",
    "use_pose_convert",
    "autoregressive",
    "use_ssa",
    "do_predict",
    "do_export",
    "refined_recompute",
    "to_static",
    "dataset_text_field",
    "max_seq_length",
    "dataset_num_proc",
    "dataset_batch_size",
    "model_init_kwargs",
    "dataset_kwargs",
    "eval_packing",
}

BACKENDS = ("paddle_flashmask", "paddle")

# Ways to divide one model over processes. One process cannot do them (PaddleNLP turns them off without a word), and
# several are data parallel here.
PARALLEL_KEYS = (
    "tensor_parallel_degree",
    "pipeline_parallel_degree",
    "sharding_parallel_degree",
    "context_parallel_degree",
    "sep_parallel_degree",
    "expert_parallel_degree",
)


@dataclasses.dataclass
class Arguments:
    """The argument groups of PaddleNLP, and what was changed in them (`notes`, to be shown to the user).

    data: DataConfig for SFT, PreferenceData otherwise. options: the keys that only one task has. backend: one of
    BACKENDS.
    """

    model: ModelConfig
    data: Any
    training: SFTConfig
    notes: list[str]
    options: Any = None
    backend: str = "paddle_flashmask"


def load_sft_config(path: str | os.PathLike, overrides: Sequence[str] = ()) -> Arguments:
    """Reads a PaddleNLP SFT JSON file.

    overrides: `--key value` words that win over the file, as on PaddleNLP's own command line. JSON null means absent.

    Raises ConfigError for unreadable JSON, unknown keys (naming the nearest known one), wrong types and
    contradictions, UnsupportedConfigError for what this release does not do.
    """
    from paddlenlp.trl import DataConfig, ModelConfig, SFTConfig

    values = read_values(path, overrides)
    values.pop("task", None)
    backend = take_backend(values)
    model, data, training, options = parse_groups(values, (ModelConfig, DataConfig, SFTConfig, MaskOptions))
    arguments = Arguments(model, data, training, notes=[], options=options, backend=backend)
    options.check()
    check_common(arguments, (("dataset_name_or_path", data.dataset_name_or_path),))
    if not 0 < data.src_length < data.max_length:
        raise ConfigError(
            f"src_length = {data.src_length} must be positive and below max_length = {data.max_length}, "
            "or no answer has room"
        )
    settle_machine(arguments, values)
    _settle_packing(arguments)
    return arguments


def read_values(path: str | os.PathLike, overrides: Sequence[str]) -> dict[str, Any]:
    """The keys of the file and of `--key value` words, which win. null means absent."""
    values = {**_read_json(Path(path)), **_parse_overrides(overrides)}
    values = {key: value for key, value in values.items() if value is not None}
    from .logs import default_report_to

    values.setdefault("report_to", default_report_to())
    return values


def take_backend(values: dict[str, Any]) -> str:
    """Takes our key `flashmask_backend` out of the values: whose kernels compute attention on column masks."""
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


def _read_json(path: Path) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{path}: the key {key!r} is there twice")
            seen[key] = value
        return seen

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    try:
        values = json.loads(text, object_pairs_hook=without_duplicates)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object of configuration keys; got {type(values).__name__}")
    return values


def _parse_overrides(words: Sequence[str]) -> dict[str, str]:
    values = {}
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise ConfigError(f"expected --key value after the configuration file; got {word!r}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise ConfigError(f"--{key} needs a value, for example --{key} true")
            value = words.pop(0)
        values[key] = value
    return values


def parse_groups(values: dict[str, Any], groups: tuple[type, ...]) -> tuple[Any, ...]:
    """One instance of every dataclass, as PaddleNLP parses them. Joins the other processes of a launched run."""
    from paddlenlp.trainer import PdArgumentParser

    known = {field.name for group in groups for field in dataclasses.fields(group) if field.init}
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigError("; ".join(_unknown_key(key, known - UNSUPPORTED_KEYS) for key in unknown))
    _check_data_parallel(values)

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
        except ValueError as contradiction:  # PaddleNLP's own checks
            raise ConfigError(f"the configuration does not fit together: {contradiction}") from contradiction


def _check_data_parallel(values: dict[str, Any]) -> None:
    """Several processes are data parallel; PaddleNLP would divide the model as soon as its arguments are parsed."""
    import paddle.distributed

    processes = paddle.distributed.get_world_size()
    if processes == 1:
        return
    asked = [key for key in PARALLEL_KEYS if _degree(values, key) > 1] + ["sharding"] * bool(values.get("sharding"))
    if asked:
        given = ", ".join(f"{key} = {values[key]!r}" for key in asked)
        raise UnsupportedConfigError(
            f"{given} on {processes} processes is not in this release: they are data parallel; "
            "set the degrees to 1 and sharding to ''"
        )


def _degree(values: dict[str, Any], key: str) -> int:
    try:
        return int(values.get(key, 1))
    except (TypeError, ValueError):  # the parser says it better
        return 1


def _unknown_key(key: str, known: set[str]) -> str:
    nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)[0]
    return f"unknown key {key!r}; the nearest known one is {nearest!r}"


def check_common(arguments: Arguments, data_paths: Sequence[tuple[str, str | None]]) -> None:
    """Refuses what no task does and what every task needs: a model, its data, something to do.

    data_paths: (key, value) of the data this run reads.
    """
    for group in (arguments.model, arguments.data, arguments.training):
        for field in dataclasses.fields(group):
            if field.name not in UNSUPPORTED_KEYS:
                continue
            default = field.default_factory() if field.default is dataclasses.MISSING else field.default
            value = getattr(group, field.name)
            if value and value != default:
                raise UnsupportedConfigError(
                    f"{field.name} = {value!r} is not in this release (only its default, {default!r})"
                )
    training = arguments.training
    for key, value in (("model_name_or_path", arguments.model.model_name_or_path), *data_paths):
        if not value:
            raise ConfigError(f"{key} is missing from the configuration")
    if not (training.do_train or training.do_eval):
        raise ConfigError("neither do_train nor do_eval is true: there is nothing to do")
    if training.fp16_opt_level == "O2" and not (training.fp16 or training.bf16):
        raise ConfigError("fp16_opt_level = 'O2' needs bf16 or fp16 to be true; for float32 use 'O1'")


def settle_machine(arguments: Arguments, values: dict[str, Any]) -> None:
    """Fits device, precision and parallel degrees to this machine and its processes, with a note for each change."""
    _settle_device(arguments, values)
    _settle_parallel(arguments, values)
    if arguments.data.lazy and arguments.training.dataloader_num_workers > 0:
        arguments.notes.append("dataloader_num_workers has no effect with lazy = true: the stream has one reader")


def _settle_device(arguments: Arguments, values: dict[str, Any]) -> None:
    import paddle

    training = arguments.training
    if training.device.startswith("gpu") and not paddle.is_compiled_with_cuda():
        if "device" in values:
            raise ConfigError(f"device = {training.device!r}, but this Paddle is built without CUDA; use 'cpu'")
        training.device = "cpu"
        arguments.notes.append("device: cpu (this Paddle is built without CUDA)")
    if training.device == "cpu" and (training.bf16 or training.fp16):
        training.bf16 = training.fp16 = False
        training.fp16_opt_level = "O1"
        arguments.notes.append("float32 instead of 16 bits: Paddle has no 16-bit matmul on the CPU")


def _settle_parallel(arguments: Arguments, values: dict[str, Any]) -> None:
    if arguments.training.world_size > 1:
        arguments.notes.append(
            f"{arguments.training.world_size} processes, data parallel: each takes batches of its own"
        )
        return
    for key in PARALLEL_KEYS:
        if _degree(values, key) > 1:
            arguments.notes.append(f"{key} = {values[key]} has no effect: there is one process")
    if values.get("sharding"):
        arguments.notes.append(f"sharding = {values['sharding']!r} has no effect: there is one process")


def _settle_packing(arguments: Arguments) -> None:
    model, data, training = arguments.model, arguments.data, arguments.training
    if model.flash_mask and not data.zero_padding:
        data.zero_padding = True
        arguments.notes.append("zero_padding is switched on: flash_mask works on packed data")
    if model.flash_mask and not training.use_flash_attention:
        training.use_flash_attention = True
        arguments.notes.append("use_flash_attention is switched on: flash_mask is the mask of that path")
    if data.greedy_zero_padding and not data.zero_padding:
        raise ConfigError("greedy_zero_padding = true needs zero_padding = true: it says how to pack")
    if data.pad_to_multiple_of is not None and data.pad_to_multiple_of < 1:
        raise ConfigError(f"pad_to_multiple_of = {data.pad_to_multiple_of} must be at least 1")
    if pads_to_max_length(arguments) and data.max_length % (data.pad_to_multiple_of or 1):
        raise ConfigError(
            f"max_length = {data.max_length} is not a multiple of pad_to_multiple_of = {data.pad_to_multiple_of}"
        )


def pads_to_max_length(arguments: Arguments) -> bool:
    """Whether every batch is padded to max_length; otherwise to its longest pack."""
    return arguments.data.pad_to_max_length or arguments.training.autotuner_benchmark
