"""Puts the operator into PaddleFormers' attention registry and restores the registry exactly.

Imports no PaddleFormers module by itself.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .._import_hook import AfterImport

NAME = "paddle_flashmask"
INTERFACE = "paddleformers.nn.attention.interface"
STOCK_FLASHMASK = "paddleformers.nn.attention.flashmask_attention"
# Of eager_attention_forward in 0.3.1 and 1.2.0. The entries are written for exactly these parameters.
ENTRY_PARAMETERS = [
    "module",
    "query",
    "key",
    "value",
    "attention_mask",
    "dropout",
    "sink",
    "scaling",
    "is_causal",
    "kwargs",
]


@dataclasses.dataclass(frozen=True)
class Replacement:
    """A class attribute of PaddleFormers and a function that makes its replacement.

    make: gets the names of the operator's entries and the original, which is None for a new attribute.
    """

    class_name: str
    attribute: str
    make: Callable[[tuple[str, ...], Any], Any]
    is_new: bool = False


def _kept_implementation(names: tuple[str, ...], original: Any) -> Any:
    from .gemma3 import KeptImplementation

    return KeptImplementation(names)


def _correct_columns(names: tuple[str, ...], original: Callable) -> Callable:
    from .dpo import postprocess_over

    return postprocess_over(original)


def _single_process_model(names: tuple[str, ...], original: Callable) -> Callable:
    from .dpo import wrap_ref_model_over

    return wrap_ref_model_over(original)


REPLACEMENTS = {
    "paddleformers.transformers.gemma3_text.modeling": Replacement(
        "Gemma3Attention", "attn_implementation", _kept_implementation, is_new=True
    ),
    "paddleformers.datasets.DPODataset": Replacement("BaseDPODataSet", "_postprocess_sequence", _correct_columns),
    "paddleformers.cli.train.dpo.dpo_trainer": Replacement("DPOTrainer", "_wrap_ref_model", _single_process_model),
    # The same class in 0.3.1 and before, which ERNIEKit derives from.
    "paddleformers.trl.dpo_trainer": Replacement("DPOTrainer", "_wrap_ref_model", _single_process_model),
}


class PaddleFormersPatch:
    """Registers the operator under `names` and applies REPLACEMENTS. `install` changes modules that are imported and
    waits for the others."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._mapping: dict[str, Callable] | None = None
        self._entry: Callable | None = None
        self._replaced: dict[str, Callable | None] = {}
        self._attributes: list[tuple[type, str, Any, Any]] = []
        self._hook = AfterImport({INTERFACE: self._register, **dict.fromkeys(REPLACEMENTS, self._replace)})

    def install(self) -> None:
        """Raises NotImplementedError for an unknown version, at once or when PaddleFormers is imported."""
        try:
            self._hook.start()
        except BaseException:
            self.uninstall()
            raise

    def uninstall(self) -> None:
        self._hook.stop()
        self._unregister()
        self._restore_copied_function()
        while self._attributes:
            changed, attribute, original, replacement = self._attributes.pop()
            if vars(changed).get(attribute) is not replacement:
                _warn_left(f"{changed.__module__}.{changed.__name__}.{attribute}")
            elif original is None:
                delattr(changed, attribute)
            else:
                setattr(changed, attribute, original)

    def _register(self, module: ModuleType) -> None:
        interface = getattr(module, "AttentionInterface", None)
        mapping = getattr(interface, "_global_mapping", None)
        if not isinstance(mapping, dict) or not callable(getattr(interface, "register", None)):
            raise _unknown_version(f"{INTERFACE} has no AttentionInterface to register with")
        parameters = list(inspect.signature(mapping["eager"]).parameters) if "eager" in mapping else None
        if parameters != ENTRY_PARAMETERS:
            raise _unknown_version(f"the registry's eager entry has the parameters {parameters}")
        self._entry = _entry_for(importlib.metadata.version("paddleformers"))
        self._mapping = mapping
        for name in self._names:
            self._replaced[name] = mapping.get(name)
            interface.register(name, self._entry)

    def _unregister(self) -> None:
        if self._mapping is None:
            return
        for name, previous in self._replaced.items():
            if self._mapping.get(name) is not self._entry:
                _warn_left(f"the attention implementation {name!r} of PaddleFormers")
            elif previous is None:
                del self._mapping[name]
            else:
                self._mapping[name] = previous
        self._mapping = None
        self._replaced.clear()

    def _restore_copied_function(self) -> None:
        """PaddleFormers copies Paddle's function at import; under `enable()` it copied the operator instead."""
        module = sys.modules.get(STOCK_FLASHMASK)
        if module is None:
            return
        from paddle.nn.functional import flash_attention

        from paddle_flashmask import functional

        if getattr(module, "flashmask_attention", None) is functional.flashmask_attention:
            module.flashmask_attention = flash_attention.flashmask_attention

    def _replace(self, module: ModuleType) -> None:
        wanted = REPLACEMENTS[module.__name__]
        changed = getattr(module, wanted.class_name, None)
        original = None if changed is None else vars(changed).get(wanted.attribute)
        if changed is None or (original is None and not wanted.is_new):
            raise _unknown_version(f"{module.__name__} lacks {wanted.class_name}.{wanted.attribute}")
        replacement = wanted.make(self._names, original)
        self._attributes.append((changed, wanted.attribute, original, replacement))
        setattr(changed, wanted.attribute, replacement)


def _warn_left(what: str) -> None:
    warnings.warn(f"{what} was replaced again after the operator was installed; it is left as it is", stacklevel=3)


def _entry_for(version: str) -> Callable:
    """The operator's entry for a version of PaddleFormers.

    0.3.1 passes [B, S, H, D] and 1.2 passes [B, H, S, D] under one signature, so only the version distinguishes them.
    """
    if version == "0.3.1":
        from .attention_0_3 import paddle_flashmask_attention_0_3

        return paddle_flashmask_attention_0_3
    if version.startswith("1.2."):
        from .attention import paddle_flashmask_attention

        return paddle_flashmask_attention
    raise _unknown_version("the layout of query, key and value is not known")


def _unknown_version(found: str) -> NotImplementedError:
    version = importlib.metadata.version("paddleformers")
    return NotImplementedError(
        f"paddle_flashmask supports the attention registry of PaddleFormers 0.3.1 and 1.2; this is {version}, where "
        f"{found}. Install paddleformers==1.2.0, or paddleformers==0.3.1 for ERNIEKit 1.3.0; or do not register "
        "paddle_flashmask with it"
    )


# For `enable()`: configurations with PaddleFormers' own `flashmask`, its default, are routed as well.
PADDLEFORMERS_PATCH = PaddleFormersPatch(NAME, "flashmask")
_REGISTRATION = PaddleFormersPatch(NAME)


def register() -> None:
    """Add `paddle_flashmask` to the attention implementations of PaddleFormers, for the rest of the process.

    This also keeps Gemma 3 at that implementation, corrects the columns of DPO pairs, and lets DPO run in one process.
    PaddleFormers' other implementations are unchanged. Calling it again has no effect.

    Raises:
        NotImplementedError: an unknown version of PaddleFormers.
    """
    _REGISTRATION.install()
