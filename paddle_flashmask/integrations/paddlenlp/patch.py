"""Puts the operator under PaddleNLP's models and takes it back exactly. Imports no PaddleNLP module by itself."""

from __future__ import annotations

import importlib.metadata
import inspect
import warnings
from collections.abc import Callable
from types import ModuleType

from .._import_hook import AfterImport

FUSION_OPS = "paddlenlp.transformers.llama.fusion_ops"
ATTENTION_LAYERS = {
    "paddlenlp.transformers.llama.modeling": "LlamaAttention",
    "paddlenlp.transformers.qwen2.modeling": "Qwen2Attention",
    "paddlenlp.transformers.qwen2_moe.modeling": "Qwen2MoeAttention",
    "paddlenlp.transformers.deepseek_v2.modeling": "DeepseekV2Attention",
}
# Of 3.0.0b3 and 3.0.0b4. The replacement is written for exactly these.
FUSION_FLASH_ATTENTION_PARAMETERS = [
    "query_states",
    "config",
    "key_states",
    "value_states",
    "attention_mask",
    "output_attentions",
    "alibi",
    "attn_mask_startend_row_indices",
    "sequence_parallel",
    "reshard_layer",
    "npu_is_casual",
    "skip_recompute",
]


class PaddleNLPPatch:
    """Routes `fusion_flash_attention` (the flash path of every model that takes indices) and the eager path of the
    models that would ignore them. `install` changes modules that are imported and waits for the others."""

    def __init__(self) -> None:
        self._fusion_ops: ModuleType | None = None
        self._original: Callable | None = None
        self._replacement: Callable | None = None
        self._layer_classes: list[type] = []
        self._hook = AfterImport(
            {FUSION_OPS: self._patch_fusion_ops, **dict.fromkeys(ATTENTION_LAYERS, self._patch_modeling)}
        )

    def install(self) -> None:
        """Raises NotImplementedError (at once, or when PaddleNLP is imported) for a version it does not know."""
        try:
            self._hook.start()
        except BaseException:
            self.uninstall()
            raise

    def uninstall(self) -> None:
        self._hook.stop()
        if self._fusion_ops is not None:
            if self._fusion_ops.fusion_flash_attention is self._replacement:
                self._fusion_ops.fusion_flash_attention = self._original
            else:
                warnings.warn(
                    f"{FUSION_OPS}.fusion_flash_attention was replaced after the operator was put there; "
                    "it is left as it is",
                    stacklevel=2,
                )
            self._fusion_ops = self._original = self._replacement = None
        for layer_class in self._layer_classes:
            del layer_class.attn_func
        self._layer_classes.clear()

    def _patch_fusion_ops(self, module: ModuleType) -> None:
        original = getattr(module, "fusion_flash_attention", None)
        parameters = list(inspect.signature(original).parameters) if original is not None else None
        if parameters != FUSION_FLASH_ATTENTION_PARAMETERS:
            raise _unknown_version(f"{FUSION_OPS}.fusion_flash_attention has the parameters {parameters}")
        from .attention import fusion_flash_attention_over

        self._fusion_ops, self._original = module, original
        self._replacement = module.fusion_flash_attention = fusion_flash_attention_over(original)

    def _patch_modeling(self, module: ModuleType) -> None:
        layer_class = getattr(module, ATTENTION_LAYERS[module.__name__], None)
        function = getattr(module, "scaled_dot_product_attention", None)
        if layer_class is None or function is None:
            raise _unknown_version(f"{module.__name__} lacks its attention layer or function")
        if "attn_mask_startend_row_indices" not in inspect.signature(function).parameters:
            return  # a model that takes no indices in this version cannot ignore them either
        from .attention import RoutedAttentionFunction

        layer_class.attn_func = RoutedAttentionFunction()
        self._layer_classes.append(layer_class)


def _unknown_version(found: str) -> NotImplementedError:
    version = importlib.metadata.version("paddlenlp")
    return NotImplementedError(
        f"paddle_flashmask knows how to route PaddleNLP 3.0.0b3 and 3.0.0b4; this is {version}, where {found}. "
        "Install paddlenlp==3.0.0b4, or do not call paddle_flashmask.enable()"
    )


PADDLENLP_PATCH = PaddleNLPPatch()
