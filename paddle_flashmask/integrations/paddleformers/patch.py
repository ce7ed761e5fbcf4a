"""Puts the operator into PaddleFormers' attention registry and takes it back exactly. Imports no PaddleFormers module
by itself."""

from __future__ import annotations

import importlib.metadata
import inspect
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

from .._import_hook import AfterImport

NAME = "paddle_flashmask"
INTERFACE = "paddleformers.nn.attention.interface"
STOCK_FLASHMASK = "paddleformers.nn.attention.flashmask_attention"
DPO_DATA_SET = "paddleformers.datasets.DPODataset"
GEMMA3 = "paddleformers.transformers.gemma3_text.modeling"
# Until 0.4 the registry's functions got [B, S, H, D], which no signature tells from the [B, H, S, D] of today; so the
# version decides.
KNOWN_VERSIONS = ("1.2.",)
# Of eager_attention_forward in 1.2.0. The entry is written for exactly these.
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


class PaddleFormersPatch:
    """Registers the operator under `names`, keeps Gemma 3 at it, and corrects the columns of the DPO data set.
    `install` changes modules that are imported and waits for the others."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._mapping: dict[str, Callable] | None = None
        self._replaced: dict[str, Callable | None] = {}
        self._data_set: type | None = None
        self._postprocess: tuple[Callable, Callable] | None = None
        self._gemma3_layer: type | None = None
        self._replaced_attribute: object = None
        self._hook = AfterImport(
            {INTERFACE: self._register, DPO_DATA_SET: self._correct_columns, GEMMA3: self._keep_implementation}
        )

    def install(self) -> None:
        """Raises NotImplementedError (at once, or when PaddleFormers is imported) for a version it does not know."""
        try:
            self._hook.start()
        except BaseException:
            self.uninstall()
            raise

    def uninstall(self) -> None:
        self._hook.stop()
        self._unregister()
        self._give_paddles_function_back()
        if self._data_set is not None:
            original, replacement = self._postprocess
            if self._data_set._postprocess_sequence is replacement:
                self._data_set._postprocess_sequence = original
            else:
                _warn_left(f"{DPO_DATA_SET}.{self._data_set.__name__}._postprocess_sequence")
            self._data_set = self._postprocess = None
        if self._gemma3_layer is not None:
            if self._replaced_attribute is None:
                del self._gemma3_layer.attn_implementation
            else:
                self._gemma3_layer.attn_implementation = self._replaced_attribute
            self._gemma3_layer = self._replaced_attribute = None

    def _register(self, module: ModuleType) -> None:
        interface = getattr(module, "AttentionInterface", None)
        mapping = getattr(interface, "_global_mapping", None)
        if not isinstance(mapping, dict) or not callable(getattr(interface, "register", None)):
            raise _unknown_version(f"{INTERFACE} has no AttentionInterface to register with")
        parameters = list(inspect.signature(mapping["eager"]).parameters) if "eager" in mapping else None
        if parameters != ENTRY_PARAMETERS:
            raise _unknown_version(f"the registry's eager entry has the parameters {parameters}")
        if not importlib.metadata.version("paddleformers").startswith(KNOWN_VERSIONS):
            raise _unknown_version("the layout of query, key and value is not known")
        from .attention import paddle_flashmask_attention

        self._mapping = mapping
        for name in self._names:
            self._replaced[name] = mapping.get(name)
            interface.register(name, paddle_flashmask_attention)

    def _unregister(self) -> None:
        if self._mapping is None:
            return
        from .attention import paddle_flashmask_attention

        for name, previous in self._replaced.items():
            if self._mapping.get(name) is not paddle_flashmask_attention:
                _warn_left(f"the attention implementation {name!r} of PaddleFormers")
            elif previous is None:
                del self._mapping[name]
            else:
                self._mapping[name] = previous
        self._mapping = None
        self._replaced.clear()

    def _give_paddles_function_back(self) -> None:
        """PaddleFormers copies Paddle's function when it is imported; under `enable()` that was the operator."""
        module = sys.modules.get(STOCK_FLASHMASK)
        if module is None:
            return
        from paddle.nn.functional import flash_attention

        from paddle_flashmask import functional

        if getattr(module, "flashmask_attention", None) is functional.flashmask_attention:
            module.flashmask_attention = flash_attention.flashmask_attention

    def _correct_columns(self, module: ModuleType) -> None:
        data_set = getattr(module, "BaseDPODataSet", None)
        original = vars(data_set).get("_postprocess_sequence") if data_set is not None else None
        if original is None:
            raise _unknown_version(f"{DPO_DATA_SET} lacks BaseDPODataSet._postprocess_sequence")
        from .dpo import postprocess_over

        self._data_set = data_set
        self._postprocess = original, postprocess_over(original)
        data_set._postprocess_sequence = self._postprocess[1]

    def _keep_implementation(self, module: ModuleType) -> None:
        layer = getattr(module, "Gemma3Attention", None)
        if layer is None:
            raise _unknown_version(f"{GEMMA3} lacks Gemma3Attention")
        from .gemma3 import KeptImplementation

        self._gemma3_layer, self._replaced_attribute = layer, vars(layer).get("attn_implementation")
        layer.attn_implementation = KeptImplementation(self._names)


def _warn_left(what: str) -> None:
    warnings.warn(f"{what} was replaced after the operator was put there; it is left as it is", stacklevel=3)


def _unknown_version(found: str) -> NotImplementedError:
    version = importlib.metadata.version("paddleformers")
    return NotImplementedError(
        f"paddle_flashmask knows the attention registry of PaddleFormers 1.2; this is {version}, where {found}. "
        "Install paddleformers==1.2.0, or do not register paddle_flashmask with it"
    )


# What `enable()` installs: configurations that name PaddleFormers' own `flashmask`, its default, are routed as well.
PADDLEFORMERS_PATCH = PaddleFormersPatch(NAME, "flashmask")
_REGISTRATION = PaddleFormersPatch(NAME)


def register() -> None:
    """Adds `paddle_flashmask` to the attention implementations of PaddleFormers, and corrects its DPO columns.

    For the rest of the process; PaddleFormers' other implementations stay as they are. Calling it again changes
    nothing. Raises NotImplementedError for a version of PaddleFormers that it does not know.
    """
    _REGISTRATION.install()
