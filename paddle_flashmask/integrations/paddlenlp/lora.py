"""PaddleNLP's LoRA adapters: new ones, and those of a saved run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .adapter_files import check_adapter
from .config.arguments import Arguments
from .errors import ConfigError
from .processes import share_parameters


def with_lora(model: Any, arguments: Arguments, trained_whole: Sequence[str] = ()) -> Any:
    """Put adapters around the model: new ones, or those of lora_path.

    trained_whole: regular expressions for parameters that are trained in full and saved with the adapters.
    """
    from paddlenlp.peft import LoRAConfig, LoRAModel

    options = arguments.model
    if options.lora_path is not None:
        return LoRAModel.from_pretrained(model=model, lora_path=options.lora_path)
    alpha = getattr(arguments.options, "lora_alpha", -1)
    config = LoRAConfig(
        target_modules=_target_modules(model),
        trainable_modules=list(trained_whole) or None,
        r=options.lora_rank,
        lora_alpha=alpha if alpha > 0 else 4 if options.rslora else 2 * options.lora_rank,
        rslora=options.rslora,
        lora_plus_scale=options.lora_plus_scale,
        pissa=options.pissa,
        merge_weights=False,
        dtype=model.config.dtype,
        base_model_name_or_path=options.model_name_or_path,
        tensor_parallel_degree=arguments.training.tensor_parallel_degree,
        use_quick_lora=options.use_quick_lora,
    )
    model = LoRAModel(model, config)
    model.mark_only_lora_as_trainable()
    share_parameters(model)
    return model


def _target_modules(model: Any) -> list[str]:
    from paddlenlp.trl.llm_utils import get_lora_target_modules

    if model.base_model_prefix == "gemma":  # unknown to PaddleNLP; the same layers as for Llama
        return [f".*{name}_proj.*" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    return get_lora_target_modules(model)


def load_with_adapter(adapter: str | Path, model_class_of: Callable[[Any, Any], type], base: str | None = None) -> Any:
    """Load the base model in float32 with the adapter around it, as PaddleNLP's LoRAModel.

    adapter: a folder that PaddleNLP saved. model_class_of: returns the class of the base from its configuration and
    the LoRAConfig. base: folder or name of the model, or None for the one that the adapter names.

    Raises ConfigError if the adapter or its base is missing.
    """
    from paddlenlp.peft import LoRAConfig, LoRAModel
    from paddlenlp.transformers import AutoConfig

    check_adapter(str(adapter), adapter)
    lora_config = LoRAConfig.from_pretrained(str(adapter))
    lora_config.dtype = "float32"
    lora_config.base_model_name_or_path = base or lora_config.base_model_name_or_path
    name = lora_config.base_model_name_or_path
    if not name:
        raise ConfigError(f"{adapter} does not name the model it belongs to: give it as the base")
    try:
        config = AutoConfig.from_pretrained(name, dtype="float32")
        model = model_class_of(config, lora_config).from_pretrained(name, config=config)
    except OSError as error:
        raise ConfigError(f"the base model {name!r} of {adapter} cannot be read: {error}") from error
    return LoRAModel.from_pretrained(model, str(adapter), lora_config=lora_config)
